package endpoint

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/verify"
)

// llamaPython has the shape of llama-cpp-python 0.3.36: text in, keys of text out,
// of two tokens with the same text the less likely one's figure, no null but the
// first, no entry for the beginning-of-sequence token.
type llamaPython struct {
	*fake
	bos    int  // the beginning-of-sequence token; -1: none
	adds   bool // it is put in front of every prompt
	beside bool // figures stand beside the token that they predict, as OpenAI's do
	other  bool // texts are cut otherwise
	not    bool // started without --logits_all
}

// piece is the text of a token as its binding gives it.
func (f *llamaPython) piece(id int) string {
	if f.tok.IsSpecial(id) {
		return ""
	}
	b, _ := f.tok.Bytes(id)
	return strings.ToValidUTF8(b, "")
}

func (f *llamaPython) cut(text string) []int {
	ids := f.tok.Encode(text)
	if f.other {
		ids = append(ids, ids[0])
	}
	if f.adds {
		ids = append([]int{f.bos}, ids...)
	}
	return ids
}

func (f *llamaPython) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/v1/models": f.models("me"),
		"/extras/tokenize": func(w http.ResponseWriter, r *http.Request) {
			var q struct{ Input string }
			assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&q))
			reply(w, map[string]any{"tokens": f.cut(q.Input)})
		},
		"/v1/completions": func(w http.ResponseWriter, r *http.Request) {
			var q struct {
				Prompt  string
				K       int     `json:"logprobs"`
				Penalty float64 `json:"repeat_penalty"`
			}
			assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&q))
			assert.InDelta(f.t, 1, q.Penalty, 0, "a penalty makes the greedy token another")
			if f.not {
				w.WriteHeader(http.StatusInternalServerError)
				reply(w, map[string]any{"error": map[string]any{"message": "logprobs is not supported for models created with logits_all=False"}})
				return
			}
			reply(w, f.complete(q.Prompt, q.K))
		},
	}
}

func (f *llamaPython) complete(prompt string, k int) map[string]any {
	ids := f.cut(prompt)
	values, order := f.probs(ids)
	made := order[len(ids)-1][0]
	all := append(append([]int{}, ids...), made)
	if all[0] == f.bos {
		all = all[1:]
	}
	var tokens, probs, top []any
	for i, id := range all {
		row := i // of the figures, in the same count as all of them
		if f.beside && ids[0] != f.bos {
			row--
		}
		if id == f.bos || row >= len(values) {
			continue
		}
		tokens = append(tokens, f.piece(id))
		if row < 0 {
			probs, top = append(probs, nil), append(top, nil)
			continue
		}
		m := map[string]any{}
		for _, o := range order[row][:k] {
			m[f.piece(o)] = values[row][o]
		}
		m[f.piece(id)] = values[row][id]
		probs, top = append(probs, values[row][id]), append(top, m)
	}
	probs[0], top[0] = nil, nil
	return map[string]any{"choices": []any{map[string]any{"text": prompt + f.piece(made), "logprobs": map[string]any{"tokens": tokens, "token_logprobs": probs, "top_logprobs": top}}}}
}

// TestLlamaPython: the echo of llama-cpp-python is read as it is meant, whichever
// place its figures stand at, and what cannot be read is not judged.
func TestLlamaPython(t *testing.T) {
	dir := folder(t)
	base := newFake(t, dir)
	mask, ok := base.tok.AddedID("[gMASK]")
	require.True(t, ok)
	sop, ok := base.tok.AddedID("<sop>")
	require.True(t, ok)
	text := ids(t, base, 40)
	marked := append([]int{mask, sop}, text[:30]...)
	inside := append(append(append([]int{}, text[:12]...), mask), text[12:33]...)
	broken := 0
	for b, _ := base.tok.Bytes(broken); utf8.ValidString(b); b, _ = base.tok.Bytes(broken) {
		broken++
	}
	for name, tc := range map[string]struct {
		f      llamaPython
		seqs   [][]int
		tokens int // places that are judged at least
		note   string
	}{
		"plain":                              {llamaPython{bos: mask}, [][]int{text}, 30, ""},
		"plain, beside":                      {llamaPython{bos: mask, beside: true}, [][]int{text}, 30, ""},
		"begins with its own token":          {llamaPython{bos: mask}, [][]int{marked}, 24, ""},
		"both":                               {llamaPython{bos: mask}, [][]int{text, marked}, 54, ""},
		"begins with a token without a text": {llamaPython{bos: -1}, [][]int{marked}, 24, ""},
		"its own token inside":               {llamaPython{bos: mask}, [][]int{inside}, 24, ""},
		"its own token is put in front":      {llamaPython{bos: mask, adds: true}, [][]int{marked}, 24, ""},
		"a token is put in front":            {llamaPython{bos: mask, adds: true}, [][]int{text}, 0, "puts a token in front"},
		"other tokens":                       {llamaPython{bos: mask, other: true}, [][]int{text}, 0, "into other tokens"},
		"ids that no text has":               {llamaPython{bos: mask}, [][]int{append([]int{text[1], text[1], text[2], text[2], 300, 301, 302, 303}, text[:20]...), text}, 30, "1 of 2 are not judged"},
		"a character that is cut in two":     {llamaPython{bos: mask}, [][]int{append(append([]int{}, text[:34]...), broken)}, 30, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.f.fake = base
			o := few(base.serve(tc.f.routes()))
			o.TopK = -1
			o.Verify.TokenIDs = tc.seqs
			r, err := Verify(t.Context(), dir, "", o)
			require.NoError(t, err)
			f := r.Servers[0].Figures
			assert.Empty(t, r.Failed, r.Text())
			assert.GreaterOrEqual(t, f.Tokens, tc.tokens, r.Text())
			assert.InDelta(t, 0, f.Abs, 1e-6, r.Text())
			assert.Less(t, f.KL, 1e-3, r.Text())
			assert.NotEqual(t, verify.Fail, r.Verdict)
			if tc.note != "" {
				assert.Contains(t, r.Text(), tc.note)
			}
			if tc.tokens == 0 {
				assert.Equal(t, verify.Undecided, r.Verdict, r.Text())
			}
		})
	}
	t.Run("without logits_all", func(t *testing.T) {
		f := llamaPython{fake: base, bos: -1, not: true}
		o := few(base.serve(f.routes()))
		o.Verify.TokenIDs = [][]int{text}
		_, err := Verify(t.Context(), dir, "", o)
		require.ErrorIs(t, err, ErrAnswer)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Contains(t, e.Advice, "--logits_all true")
	})
}

// TestEchoLead: what one answer says of the place that its figures are of.
func TestEchoLead(t *testing.T) {
	top := func(text string) map[string]float64 { return map[string]float64{text: -0.1, "other": -3} }
	for name, tc := range map[string]struct {
		text string
		top  []map[string]float64
		lead int
		ok   bool
	}{
		"behind":          {"x", []map[string]float64{nil, top("a"), top("x")}, 1, true},
		"beside":          {"x", []map[string]float64{nil, top("a"), top("b"), top("x")}, 0, true},
		"both":            {"x", []map[string]float64{nil, top("a"), top("x"), top("x")}, 0, false},
		"neither":         {"x", []map[string]float64{nil, top("a"), top("b"), top("c")}, 0, false},
		"nothing made":    {"", []map[string]float64{nil, top("a"), top("")}, 0, false},
		"equally likely":  {"x", []map[string]float64{nil, top("a"), {"x": -1, "y": -1}}, 0, false},
		"fewer than said": {"x", []map[string]float64{nil, top("x")}, 0, false},
		"infinite":        {"x", []map[string]float64{nil, top("a"), {"x": math.Inf(-1)}}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := echo{text: tc.text, Top: tc.top}
			lead, ok := e.lead(3)
			assert.Equal(t, tc.ok, ok)
			assert.Equal(t, tc.lead, lead)
		})
	}
}

// TestHidden: a choice is only compared where no token without a name can be it.
func TestHidden(t *testing.T) {
	mute := func(id int) bool { return id == 9 }
	for name, tc := range map[string]struct {
		list   []entry
		choice int
		want   bool
	}{
		"named":            {[]entry{{1, math.Log(0.6)}, {2, math.Log(0.2)}}, 1, false},
		"another is named": {[]entry{{1, math.Log(0.6)}, {2, math.Log(0.2)}}, 2, false},
		"has no name":      {[]entry{{1, math.Log(0.6)}, {2, math.Log(0.2)}}, 9, true},
		"rest is likelier": {[]entry{{1, math.Log(0.3)}, {2, math.Log(0.2)}}, 1, true},
		"nothing":          {nil, 1, true},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, hidden(tc.list, tc.choice, mute)) })
	}
}
