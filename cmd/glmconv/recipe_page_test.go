package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recipePage is the JSON in the page of `recipe --html`.
type recipePage struct {
	Command string
	Choices []struct {
		ID      string
		Options []struct {
			ID, Flags string
			Node      int
		}
	}
	Forms     []string
	Cells     []int
	Decisions [][]int
	Strings   []string
	Texts     [][]int
}

// TestRecipePage: the command that the page shows beside a cell prints what the
// cell says, in every form, and ends with the code of its state.
func TestRecipePage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.html")
	var out, errs bytes.Buffer
	args := []string{"glmconv", "recipe", "--model", "glm-4.5v", "--scheme", "w8a8", "--concurrency", "8", "--no-mtp", "--html", path}
	require.Equal(t, exitOK, run(context.Background(), args, &out, &errs), errs.String())
	assert.Empty(t, out.String())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	m := regexp.MustCompile(`(?s)id="cells">(.*?)</script>`).FindSubmatch(data)
	require.NotNil(t, m)
	var p recipePage
	require.NoError(t, json.Unmarshal(m[1], &p))
	seen := map[int]int{}
	for n := 0; n < len(p.Cells); n += 53 {
		if p.Cells[n] < 0 {
			continue
		}
		words, device, node := []string{p.Command}, "", 0
		rest := n
		at := make([]int, len(p.Choices))
		for i := len(at) - 1; i >= 0; i-- {
			at[i], rest = rest%len(p.Choices[i].Options), rest/len(p.Choices[i].Options)
		}
		for i, c := range p.Choices {
			o := c.Options[at[i]]
			if c.ID == "device" {
				device, node = o.Flags, o.Node
				continue
			}
			if o.Flags != "" {
				words = append(words, o.Flags)
			}
		}
		line := strings.NewReplacer("{device}", device, "{node}", strconv.Itoa(node)).Replace(strings.Join(words, " "))
		d := p.Decisions[p.Cells[n]]
		seen[d[0]]++
		i := n % len(p.Forms)
		if d[3+i] < 0 {
			i = len(p.Forms) - 1 // json is always there
		}
		out.Reset()
		code := run(context.Background(), append(strings.Fields(line), "--out", p.Forms[i]), &out, &errs)
		require.Equal(t, []int{exitOK, exitUndecided, exitNegative}[d[0]], code, line)
		require.Equal(t, testkit.PageText(p.Strings, p.Texts, d[3+i]), out.String(), line)
	}
	assert.Positive(t, seen[0])
	assert.Positive(t, seen[2])
}
