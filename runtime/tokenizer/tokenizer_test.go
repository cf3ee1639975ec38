package tokenizer

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"pgregory.net/rapid"
)

// small builds a tokenizer.json: the 256 bytes, the given merges, and a few
// added tokens; edit may change it.
func small(edit func(map[string]any), merges ...string) []byte {
	vocab := map[string]any{}
	for b, r := range byteRunes {
		vocab[string(r)] = b
	}
	for _, m := range merges {
		if entry := strings.ReplaceAll(m, " ", ""); vocab[entry] == nil {
			vocab[entry] = len(vocab)
		}
	}
	added := []any{}
	for i, a := range []string{"<a>", "<a>b", "<sp>", "</think>"} {
		added = append(added, map[string]any{"id": 1000 + i, "content": a, "special": i == 2})
	}
	f := map[string]any{
		"added_tokens": added, "normalizer": nil, "post_processor": nil, "decoder": map[string]any{"type": "ByteLevel"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": glmPattern}, "behavior": "Isolated", "invert": false},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}}},
		"model": map[string]any{"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": true},
	}
	if merges == nil {
		f["model"].(map[string]any)["merges"] = []string{}
	}
	if edit != nil {
		edit(f)
	}
	data, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return data
}

func mustParse(t testing.TB, data []byte) *Tokenizer {
	tok, err := Parse(data)
	require.NoError(t, err)
	return tok
}

func TestMergeOrder(t *testing.T) {
	tok := mustParse(t, small(nil, "b c", "a b", "a a", "aa a"))
	id := func(s string) int { return int(tok.ids[s]) }
	tok.ignoreMerges = false
	assert.Equal(t, []int{'a', id("bc")}, tok.Encode("abc"), "lower rank first")
	assert.Equal(t, []int{id("aa"), id("aa")}, tok.Encode("aaaa"), "aa a comes after a a")
	assert.Equal(t, []int{id("aaa")}, tok.Encode("aaa"), "leftmost first")
	assert.Equal(t, []int{id("aa"), id("aaa")}, tok.Encode("aaaaa"))
	pairs := mustParse(t, small(func(f map[string]any) {
		f["model"].(map[string]any)["merges"] = [][]string{{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}}
	}, "b c", "a b", "a a", "aa a"))
	assert.Equal(t, tok.merges, pairs.merges)
}

// naive merges by searching the whole piece for the best pair each time.
func naive(t *Tokenizer, piece string) []int {
	var ids []int32
	for i := range len(piece) {
		ids = append(ids, t.bytes[piece[i]])
	}
	for {
		best, at := merge{rank: 1 << 30}, -1
		for i := 0; i+1 < len(ids); i++ {
			if m, ok := t.merges[pairOf(ids[i], ids[i+1])]; ok && m.rank < best.rank {
				best, at = m, i
			}
		}
		if at < 0 {
			break
		}
		ids[at] = best.id
		ids = append(ids[:at+1], ids[at+2:]...)
	}
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	return out
}

func TestMergeEqualsNaive(t *testing.T) {
	tok := mustParse(t, small(nil, "a b", "b a", "ab a", "a a", "c ab", "aba c", "aa b", "cab a", "b b", "abac aab"))
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.StringMatching(`[abc]{2,60}`).Draw(t, "piece")
		e := &encoder{Tokenizer: tok, ctx: context.Background()}
		e.merge(piece)
		assert.Equal(t, naive(tok, piece), e.ids)
	})
}

func TestAddedTokens(t *testing.T) {
	tok := mustParse(t, small(nil))
	assert.Equal(t, []int{'x', 1001, 1000, 'c', 1002}, tok.Encode("x<a>b<a>c<sp>"), "longest first")
	assert.NotContains(t, tok.EncodeOrdinary("<sp>"), 1002)
	id, ok := tok.AddedID("</think>")
	assert.True(t, ok)
	assert.Equal(t, 1003, id)
	assert.True(t, tok.IsSpecial(1002))
	assert.False(t, tok.IsSpecial(1003))
	assert.Equal(t, "</think>", tok.DecodeSkipSpecial([]int{1002, 1003, 999999}), "ids of nothing decode to nothing")
	assert.Equal(t, 260, tok.VocabSize())
	assert.Equal(t, 1003, tok.MaxID())
}

func TestStreamingHoldsBackIncompleteCharacters(t *testing.T) {
	tok := mustParse(t, small(nil))
	d := tok.NewDecoder()
	var got []string
	for _, b := range []byte("é中\xe4\xb8x😀\xf0\x9f") {
		got = append(got, d.Add(int(b)))
	}
	got = append(got, d.Flush())
	assert.Equal(t, []string{"", "é", "", "", "中", "", "", "\ufffdx", "", "", "", "😀", "", "", "\ufffd"}, got)
}

func TestRefusals(t *testing.T) {
	part := func(f map[string]any, keys ...any) map[string]any {
		cur := any(f)
		for _, k := range keys {
			switch k := k.(type) {
			case string:
				cur = cur.(map[string]any)[k]
			case int:
				cur = cur.([]any)[k]
			}
		}
		return cur.(map[string]any)
	}
	pre := func(i int, key string, v any) func(map[string]any) {
		return func(f map[string]any) { part(f, "pre_tokenizer", "pretokenizers", i)[key] = v }
	}
	model := func(key string, v any) func(map[string]any) {
		return func(f map[string]any) { part(f, "model")[key] = v }
	}
	top := func(key string, v any) func(map[string]any) { return func(f map[string]any) { f[key] = v } }
	for name, c := range map[string]struct {
		edit func(map[string]any)
		kind error
		says string
	}{
		"pattern":      {pre(0, "pattern", map[string]any{"Regex": `\s+|\S+`}), ErrUnsupported, "not the GLM pattern"},
		"literal":      {pre(0, "pattern", map[string]any{"String": " "}), ErrUnsupported, "pattern"},
		"behavior":     {pre(0, "behavior", "Removed"), ErrUnsupported, "Isolated"},
		"invert":       {pre(0, "invert", true), ErrUnsupported, "Isolated"},
		"prefix space": {pre(1, "add_prefix_space", true), ErrUnsupported, "add_prefix_space"},
		"own regex":    {pre(1, "use_regex", true), ErrUnsupported, "use_regex"},
		"metaspace":    {pre(1, "type", "Metaspace"), ErrUnsupported, "Metaspace"},
		"no split":     {top("pre_tokenizer", map[string]any{"type": "ByteLevel"}), ErrUnsupported, "Split"},
		"none":         {top("pre_tokenizer", nil), ErrUnsupported, "missing"},
		"normalizer":   {top("normalizer", map[string]any{"type": "NFC"}), ErrUnsupported, "normalizer"},
		"template":     {top("post_processor", map[string]any{"type": "TemplateProcessing"}), ErrUnsupported, "TemplateProcessing"},
		"template of a prefix": {top("post_processor", map[string]any{"type": "TemplateProcessing",
			"single": []any{map[string]any{"SpecialToken": map[string]any{"id": "<x>"}}, map[string]any{"Sequence": map[string]any{"id": "A"}}}}), ErrUnsupported, "TemplateProcessing"},
		"template in a sequence": {top("post_processor", map[string]any{"type": "Sequence",
			"processors": []any{map[string]any{"type": "ByteLevel"}, map[string]any{"type": "BertProcessing"}}}), ErrUnsupported, "Sequence"},
		"decoder":       {top("decoder", map[string]any{"type": "Metaspace"}), ErrUnsupported, "Metaspace"},
		"model":         {model("type", "Unigram"), ErrUnsupported, "Unigram"},
		"unk":           {model("unk_token", "<unk>"), ErrUnsupported, "unk"},
		"byte fallback": {model("byte_fallback", true), ErrUnsupported, "byte_fallback"},
		"dropout":       {model("dropout", 0.1), ErrUnsupported, "random"},
		"suffix":        {model("end_of_word_suffix", "</w>"), ErrUnsupported, "suffix"},
		"lstrip":        {func(f map[string]any) { part(f, "added_tokens", 0)["lstrip"] = true }, ErrUnsupported, "strips"},
		"id taken":      {func(f map[string]any) { part(f, "added_tokens", 0)["id"] = 65 }, ErrInvalid, "already"},
		"id missing":    {func(f map[string]any) { delete(part(f, "added_tokens", 0), "id") }, ErrInvalid, "id"},
		"byte missing":  {func(f map[string]any) { delete(part(f, "model", "vocab"), "a") }, ErrInvalid, "0x61"},
		"id twice":      {func(f map[string]any) { part(f, "model", "vocab")["ab"] = 7 }, ErrInvalid, "id 7"},
		"no vocab":      {model("vocab", map[string]any{}), ErrInvalid, "empty"},
		"merge":         {model("merges", []string{"a b"}), ErrInvalid, "not in the vocabulary"},
		"merge form":    {model("merges", []string{"a b c"}), ErrInvalid, "two parts"},
		"merge type":    {model("merges", 7), ErrInvalid, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(small(c.edit))
			require.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.says)
		})
	}
	_, err := Parse([]byte("{"))
	require.ErrorIs(t, err, ErrInvalid)
	_, err = Load(t.TempDir())
	require.ErrorContains(t, err, "tokenizer.json")
}

// TestPostProcessorsOfNothing: what libraries write for a tokenizer that adds
// nothing leaves the ids as they are.
func TestPostProcessorsOfNothing(t *testing.T) {
	template := map[string]any{"type": "TemplateProcessing", "special_tokens": map[string]any{},
		"single": []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
		"pair":   []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}}}}
	plain, err := Parse(small(func(map[string]any) {}))
	require.NoError(t, err)
	for name, p := range map[string]any{"byte level": map[string]any{"type": "ByteLevel"}, "template": template,
		"both": map[string]any{"type": "Sequence", "processors": []any{map[string]any{"type": "ByteLevel"}, template}}} {
		t.Run(name, func(t *testing.T) {
			tok, err := Parse(small(func(f map[string]any) { f["post_processor"] = p }))
			require.NoError(t, err)
			assert.Equal(t, plain.Encode("ab ab"), tok.Encode("ab ab"))
		})
	}
}

// oracle is the GLM pattern run by an engine with look-ahead.
var oracle = regexp2.MustCompile(glmPattern, regexp2.None)

func oraclePieces(s string) (out []string) {
	rs := []rune(s)
	m, err := oracle.FindRunesMatch(rs)
	for m != nil && err == nil {
		out = append(out, m.String())
		m, err = oracle.FindNextMatch(m)
	}
	if err != nil {
		panic(err)
	}
	return out
}

func pieces(s string) (out []string) {
	for i := 0; i < len(s); {
		end := nextPiece(s, i)
		out = append(out, s[i:end])
		i = end
	}
	return out
}

func FuzzPretokenize(f *testing.F) {
	for _, s := range []string{"", "a  b\n\n c", "I'll 'TIS ''s", "x\r\n \t y", "12345½٣", "中文，。\n", "\u00a0\u2003x\u0085", "e\u0301 \ufeff", "'ſ'S",
		"...\r\n\r\n  z ", "\v\f\x1c\x1f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 'ſ') {
			t.Skip("invalid text has no oracle; the long s is folded by Oniguruma only")
		}
		assert.Equal(t, oraclePieces(s), pieces(s))
	})
}

// FuzzParse reads any text as a tokenizer.json: it is refused, or every text has
// ids and gets its bytes back.
func FuzzParse(f *testing.F) {
	f.Add(small(nil, "a b", "h e"))
	f.Add(small(func(m map[string]any) { m["added_tokens"] = []any{map[string]any{"id": 1 << 40, "content": "<a>"}} }))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","a"]]},"added_tokens":[{"id":0,"content":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var tok *Tokenizer
		var err error
		testkit.AllocatesWithin(t, len(data), 400, 1<<20, func() { tok, err = Parse(data) })
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			return
		}
		ids := tok.EncodeOrdinary("héllo <a>\n中")
		require.NotEmpty(t, ids)
		for _, id := range ids {
			_, ok := tok.Bytes(id)
			require.True(t, ok, "id %d", id)
			require.LessOrEqual(t, id, tok.MaxID())
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	tok := mustParse(f, small(nil, "a b", "h e", "l l", "he ll", "Ġ a", "ä ¸"))
	for _, s := range []string{"", "hello <a>b 中", "\xff\xfe", "<sp><sp", "ab\x00\xf0\x9f\x98"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.Builder{}
		for i := 0; i < len(s); {
			n, valid, _ := sequence([]byte(s[i:]))
			if valid {
				want.WriteString(s[i : i+n])
			} else {
				want.WriteRune(utf8.RuneError)
			}
			i += n
		}
		for _, ids := range [][]int{tok.Encode(s), tok.EncodeOrdinary(s)} {
			assert.Equal(t, want.String(), tok.Decode(ids))
			var b strings.Builder
			for _, id := range ids {
				x, ok := tok.Bytes(id)
				require.True(t, ok)
				b.WriteString(x)
			}
			assert.Equal(t, s, b.String(), "bytes are never lost")
		}
	})
}

func TestSplitRandomText(t *testing.T) {
	alphabet := []rune("aZé中٣7½ \t\n\r\u00a0\u3000'.,-!<|>sStTrReEvVmMlLdD😀\u0301\ufeff\u0085\u2028")
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 40).Draw(t, "text"))
		assert.Equal(t, oraclePieces(s), pieces(s))
	})
}
