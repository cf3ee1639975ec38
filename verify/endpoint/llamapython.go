package endpoint

import (
	"context"
	"errors"
	"math"
	"strings"
)

// echo is an answer of llama-cpp-python's /v1/completions: text as it came back
// and, for the tokens that it lists, their texts, and the distributions that stand
// beside them.
type echo struct {
	text   string
	Tokens []string             `json:"tokens"`
	Values []*float64           `json:"token_logprobs"`
	Top    []map[string]float64 `json:"top_logprobs"`
}

// llamaPython asks for an echo. Only text can be sent, and tokens come as text:
// sequences that the server cuts otherwise are not judged. Which place a
// distribution is of, the answer itself tells (lead).
func (a *asker) llamaPython(ctx context.Context, ids []int) ([]said, error) {
	list := make([]said, len(ids))
	if a.tok == nil {
		return nil, &Error{Kind: ErrModel, Where: a.s.URL, Reason: "the folder has no tokenizer.json, and this server takes text only"}
	}
	for n := len(ids); n > max(len(ids)-maxProbes, 0); n-- { // the last character may be cut in two
		if equal(a.tok.Encode(a.tok.Decode(ids[:n])), ids[:n]) {
			ids = ids[:n]
			break
		}
	}
	text, why, err := a.asText(ctx, ids)
	if err != nil {
		return nil, err
	}
	if why != "" {
		a.skip(why)
		return list, nil
	}
	e, err := a.echo(ctx, text)
	if err != nil {
		return nil, err
	}
	at, n := a.align(ids, e.Tokens)
	if at == nil {
		a.skip("the tokens that it lists are not those of the prompt")
		return list, nil
	}
	lead, ok, err := a.lead(ctx, ids, e, at, n)
	if err != nil {
		return nil, err
	}
	if !ok {
		a.skip("which places its log-probabilities are of cannot be told")
		return list, nil
	}
	texts := a.byText()
	for i, k := range at {
		if k < 0 || k >= len(e.Top) || k >= len(e.Values) || e.Top[k] == nil || i+lead >= len(ids) {
			continue
		}
		x := said{known: true, actual: math.NaN(), others: map[int]float64{}, mute: a.mute}
		for text, v := range e.Top[k] {
			if id, ok := texts[text]; ok && id >= 0 {
				x.others[id] = v
			}
		}
		id := ids[i+lead]
		if v := e.Values[k]; lead == 0 && v != nil {
			x.others[id] = *v
		}
		if v, ok := x.others[id]; ok {
			x.actual = v
		}
		list[i+lead] = x
	}
	return list, nil
}

// asText is a text that the server cuts into ids; else why says why there is none.
func (a *asker) asText(ctx context.Context, ids []int) (text, why string, err error) {
	text = a.tok.Decode(ids)
	if !equal(a.tok.Encode(text), ids) {
		return "", "their text is cut into other tokens, and ids cannot be sent", nil
	}
	cut, err := a.cut(ctx, text)
	switch {
	case err != nil:
		return "", "", err
	case equal(cut, ids):
		return text, "", nil
	case len(cut) != len(ids)+1 || !equal(cut[1:], ids):
		return "", "the server cuts their text into other tokens", nil
	}
	// It puts a token in front of every prompt: that stands for the first one.
	if why = "the server puts a token in front of them"; len(ids) < 2 || cut[0] != ids[0] {
		return "", why, nil
	}
	text = a.tok.Decode(ids[1:])
	if cut, err = a.cut(ctx, text); err != nil || !equal(cut, ids) {
		return "", why, err
	}
	return text, "", nil
}

// cut asks the server for the tokens of a text; nil where it does not say.
func (a *asker) cut(ctx context.Context, text string) ([]int, error) {
	for _, path := range []string{"/tokenize", "/extras/tokenize"} {
		var out struct{ Tokens []int }
		err := a.c.post(ctx, path, map[string]any{"input": text}, &out, nil)
		var no *refusal
		if err == nil || !errors.As(err, &no) {
			return out.Tokens, err
		}
	}
	return nil, nil
}

func (a *asker) echo(ctx context.Context, text string) (*echo, error) {
	var out struct {
		Choices []struct {
			Text  string `json:"text"`
			Probs *echo  `json:"logprobs"`
		} `json:"choices"`
	}
	// repeat_penalty is 1.1 where nothing is said
	body := map[string]any{"model": a.s.Model, "prompt": text, "echo": true, "logprobs": a.top, "max_tokens": 1, "temperature": 0, "repeat_penalty": 1}
	err := a.c.post(ctx, "/v1/completions", body, &out, nil)
	const start = "start the server with --logits_all true"
	var no *refusal
	if errors.As(err, &no) && strings.Contains(no.text, "logits_all") {
		return nil, &Error{Kind: ErrAnswer, Where: no.where, Reason: "the server refuses log-probabilities: " + short(no.text), Advice: start}
	}
	if err != nil {
		return nil, err
	}
	if len(out.Choices) != 1 || out.Choices[0].Probs == nil {
		return nil, a.c.answered("/v1/completions", "holds no logprobs", start)
	}
	e := out.Choices[0].Probs
	e.text = strings.TrimPrefix(out.Choices[0].Text, text)
	return e, nil
}

// pieceText is the text that llama-cpp-python gives of one token: nothing of
// special ones, and nothing of bytes that are no UTF-8.
func (a *asker) pieceText(id int) string {
	if a.tok.IsSpecial(id) {
		return ""
	}
	b, _ := a.tok.Bytes(id)
	return strings.ToValidUTF8(b, "")
}

// byText is the map of texts to ids; -1 of texts that several tokens have.
func (a *asker) byText() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.texts != nil {
		return a.texts
	}
	a.texts = map[string]int{"": -1}
	for id := range a.tok.MaxID() + 1 {
		text := a.pieceText(id)
		if _, twice := a.texts[text]; twice {
			a.texts[text] = -1
			continue
		}
		a.texts[text] = id
	}
	return a.texts
}

// mute reports whether a token cannot be named: it has no text of its own.
func (a *asker) mute(id int) bool {
	b, ok := a.byText()[a.pieceText(id)]
	return !ok || b != id
}

// align finds the place of each id in the list of texts, -1 where it is left out,
// and the length of the prompt's part of the list. The beginning-of-sequence token
// is left out wherever it stands, and what the server has generated may follow.
// It returns nil where the texts are not those of ids.
func (a *asker) align(ids []int, texts []string) (at []int, n int) {
	for n = len(texts); n >= max(len(texts)-1, 1); n-- {
		missing := len(ids) - n
		if missing < 0 {
			continue
		}
		for _, left := range a.leftOut(ids, missing) {
			if at = a.match(ids, texts[:n], left); at != nil {
				return at, n
			}
		}
	}
	return nil, 0
}

// leftOut are the tokens that can be the one that is left out of a list: without
// a text, and as often in ids as places are missing. -1 stands for none.
func (a *asker) leftOut(ids []int, missing int) (out []int) {
	if missing == 0 {
		return []int{-1}
	}
	count := map[int]int{}
	for _, id := range ids {
		count[id]++
	}
	for _, id := range ids {
		if count[id] == missing && a.pieceText(id) == "" {
			out = append(out, id)
			delete(count, id)
		}
	}
	return out
}

func (a *asker) match(ids []int, texts []string, left int) []int {
	at := make([]int, len(ids))
	k := 0
	for i, id := range ids {
		switch {
		case id == left:
			at[i] = -1
		case k < len(texts) && texts[k] == a.pieceText(id):
			at[i] = k
			k++
		default:
			return nil
		}
	}
	return at
}

// maxProbes is how many shorter prompts are tried, to have one that text can say,
// or to learn how an answer is to be read.
const maxProbes = 8

// lead says how far the distributions of an echo lie before the tokens that they
// are of. OpenAI's stand beside the token that they predict: 0. llama-cpp-python
// 0.3 writes down what follows the token: 1, but where the prompt begins with the
// beginning-of-sequence token, which it leaves out of one list and not of the
// other: 0 (abetlen/llama-cpp-python#1983). The token that it generates greedily
// is the most likely one of the last distribution, and tells them apart.
func (a *asker) lead(ctx context.Context, ids []int, e *echo, at []int, n int) (lead int, ok bool, err error) {
	form := len(at) > 0 && at[0] < 0
	a.mu.Lock()
	lead, ok = a.leads[form]
	a.mu.Unlock()
	if ok {
		return lead, true, nil
	}
	for cut := 0; cut <= maxProbes; cut++ {
		if lead, ok = e.lead(n); ok {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.leads == nil {
				a.leads = map[bool]int{}
			}
			a.leads[form] = lead
			return lead, true, nil
		}
		if len(ids) < 3 {
			break
		}
		ids = ids[:len(ids)-1]
		text, why, err := a.asText(ctx, ids)
		if err != nil {
			return 0, false, err
		}
		if why != "" {
			continue
		}
		if e, err = a.echo(ctx, text); err != nil {
			return 0, false, err
		}
		if at, n = a.align(ids, e.Tokens); at == nil || form != (at[0] < 0) {
			return 0, false, nil
		}
	}
	return 0, false, nil
}

// lead reads it off one answer, of whose lists n places are the prompt's; ok is
// false where the answer fits both readings or neither. Texts that several tokens
// have, the empty one above all, tell nothing.
func (e *echo) lead(n int) (lead int, ok bool) {
	if e.text == "" || n < 1 || n > len(e.Top) {
		return 0, false
	}
	after := best(e.Top[n-1]) == e.text
	beside := n < len(e.Top) && best(e.Top[n]) == e.text
	switch {
	case after == beside:
		return 0, false
	case after:
		return 1, true
	}
	return 0, true
}

// best is the most likely text, "" where two are.
func best(top map[string]float64) string {
	text, most := "", math.Inf(-1)
	for t, v := range top {
		switch {
		case v > most:
			text, most = t, v
		case v == most:
			text = ""
		}
	}
	return text
}
