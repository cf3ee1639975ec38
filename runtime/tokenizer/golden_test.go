package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

type golden struct {
	VocabSize int `json:"vocab_size"`
	Cases     []struct {
		Text        string
		IDs         []int
		Plain       []int `json:"ids_without_added_tokens"`
		Pieces      []string
		Decoded     string
		SkipSpecial string `json:"decoded_skip_special"`
	}
}

// TestGolden compares with the ids that the reference library gives.
func TestGolden(t *testing.T) {
	for _, name := range []string{"nano", "tiny"} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/tokenizer-golden/"+name)
			tok, err := Load(dir)
			require.NoError(t, err)
			data, err := os.ReadFile(filepath.Join(dir, "tokenizer_golden.json"))
			require.NoError(t, err)
			var g golden
			require.NoError(t, json.Unmarshal(data, &g))
			require.Len(t, g.Cases, 208)
			require.Equal(t, g.VocabSize, tok.VocabSize())
			for _, c := range g.Cases {
				assert.Equal(t, c.IDs, append([]int{}, tok.Encode(c.Text)...), "%q", c.Text)
				assert.Equal(t, c.Plain, append([]int{}, tok.EncodeOrdinary(c.Text)...), "%q", c.Text)
				assert.Equal(t, c.Pieces, mapped(c.Text), "%q", c.Text)
				assert.Equal(t, c.Decoded, tok.Decode(c.IDs))
				assert.Equal(t, c.SkipSpecial, tok.DecodeSkipSpecial(c.IDs))
				stream := tok.NewDecoder()
				var b strings.Builder
				for _, id := range c.IDs {
					b.WriteString(stream.Add(id))
				}
				assert.Equal(t, c.Decoded, b.String()+stream.Flush())
			}
		})
	}
}

// mapped returns the pieces of a text in byte-map letters.
func mapped(text string) []string {
	out := []string{}
	for i := 0; i < len(text); {
		end := nextPiece(text, i)
		var b strings.Builder
		for _, c := range []byte(text[i:end]) {
			b.WriteRune(byteRunes[c])
		}
		out = append(out, b.String())
		i = end
	}
	return out
}

// TestWholePieceOnly: entries without a merge are reached by ignore_merges.
func TestWholePieceOnly(t *testing.T) {
	dir := testkit.Shared(t, "reference/tokenizer-golden/nano")
	tok, err := Load(filepath.Join(dir, "tokenizer.json"))
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "whole_piece_only.json"))
	require.NoError(t, err)
	var entries []string
	require.NoError(t, json.Unmarshal(data, &entries))
	require.NotEmpty(t, entries)
	merged := *tok
	merged.ignoreMerges = false
	for _, e := range entries {
		text, ok := unmap(e)
		require.True(t, ok)
		if end := nextPiece(text, 0); end != len(text) {
			continue // never a piece by itself
		}
		assert.Len(t, tok.Encode(text), 1, "%q", text)
		assert.Greater(t, len(merged.Encode(text)), 1, "%q", text)
	}
}
