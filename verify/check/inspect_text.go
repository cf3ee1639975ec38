package check

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/safetext"
)

// Text prints the inspection for a person.
func (in *Inspection) Text() string {
	var b strings.Builder
	name := filepath.Base(in.Dir)
	if abs, err := filepath.Abs(in.Dir); err == nil {
		name = filepath.Base(abs)
	}
	fmt.Fprintf(&b, "%s · %s · %s parameters · %s · %s in %s\n", safetext.Line(name), in.Family, count(in.Parameters), in.precision(), size(in.Bytes), plural(in.Shards, "shard"))
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s "+format+"\n", append([]any{key}, args...)...)
	}
	line("layers", "%s", in.layers())
	if in.Quantization != "" {
		tool := ""
		if in.Tool != "" {
			tool = " · written by " + safetext.Line(in.Tool)
		}
		line("quantised", "%s, %s%s", safetext.Line(in.Quantization), safetext.Line(in.Scheme), tool)
	}
	in.mtpText(line)
	vocab := fmt.Sprint(in.Vocab)
	if in.VocabUsed > 0 {
		vocab += fmt.Sprintf(" (%d used)", in.VocabUsed)
	}
	line("vocab", "%s", vocab)
	line("files", "%s", safetext.Line(shorten(in.Files, 8)))
	line("problems", "%s", in.problems())
	return b.String()
}

func (in *Inspection) layers() string {
	c := in.cfg
	s := fmt.Sprintf("%d (%d dense, %d MoE: %d experts, %d active, %d shared)", in.Layers, in.Dense, in.Layers-in.Dense, in.Experts, in.Active, in.Shared)
	if c.LatentAttention() {
		s += fmt.Sprintf(" · MLA %d/%d", c.QLoraRank, c.KVLoraRank)
	} else {
		s += fmt.Sprintf(" · %d heads, %d KV", c.Heads, c.KVHeads)
	}
	if c.SparseAttention() {
		s += fmt.Sprintf(" · sparse attention top %d", c.IndexTopK)
	}
	if c.Vision != nil {
		s += fmt.Sprintf(" · vision tower of %d blocks", c.Vision.Depth)
	}
	return s
}

func (in *Inspection) mtpText(line func(key, format string, args ...any)) {
	m := in.MTP
	switch {
	case m == nil:
		line("MTP", "none")
		return
	case m.File == "":
		line("MTP", "layer %d declared by config.json and not stored", m.Layer)
		return
	case !m.Complete:
		line("MTP", "layer %d in %s, incomplete", m.Layer, m.File)
		return
	}
	var absent []string
	if !m.EmbedTokens {
		absent = append(absent, "embed_tokens")
	}
	if !m.SharedHead {
		absent = append(absent, "shared_head.head")
	}
	if len(absent) == 0 {
		line("MTP", "layer %d in %s · with its own embed_tokens and shared_head.head", m.Layer, m.File)
		return
	}
	line("MTP", "layer %d in %s · %s absent (shared with the model)", m.Layer, m.File, strings.Join(absent, " and "))
	if in.Quantization == "" {
		line("", "vllm-ascend needs them for BF16 serving: glmconv mtp-remap %s", in.Dir)
	}
}

// precision names the element type that takes most bytes.
func (in *Inspection) precision() string {
	kinds := slices.SortedFunc(maps.Keys(in.DTypes), func(a, b string) int {
		return cmp.Or(cmp.Compare(in.DTypes[b], in.DTypes[a]), strings.Compare(a, b))
	})
	if len(kinds) == 0 {
		return "no tensors"
	}
	var out []string
	for _, k := range kinds {
		if in.DTypes[k]*50 >= in.Bytes { // 2 %
			out = append(out, k)
		}
	}
	return strings.Join(out, " + ")
}

func (in *Inspection) problems() string {
	var out []string
	if n := len(in.Missing); n > 0 {
		out = append(out, fmt.Sprintf("%s missing: %s", plural(n, "tensor"), shorten(in.Missing, 3)))
	}
	if n := len(in.Unexpected); n > 0 {
		out = append(out, fmt.Sprintf("%s unexpected: %s", plural(n, "tensor"), shorten(in.Unexpected, 3)))
	}
	if n := len(in.Problems); n > 0 {
		out = append(out, in.Problems[:min(n, 5)]...)
		if n > 5 {
			out = append(out, fmt.Sprintf("and %d more: glmconv check %s", n-5, in.Dir))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	for i := range out {
		out[i] = safetext.Line(out[i])
	}
	return strings.Join(out, "\n            ")
}

func shorten(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:n], ", ") + fmt.Sprintf(" and %d more", len(list)-n)
}

// count writes a number of parameters with three digits: "754 B".
func count(n int64) string { return scaled(float64(n), []string{"", " K", " M", " B", " T"}) }

// size writes a number of bytes with three digits: "1.51 TB".
func size(n int64) string {
	return scaled(float64(n), []string{" B", " kB", " MB", " GB", " TB", " PB"})
}

func scaled(v float64, units []string) string {
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	switch {
	case i == 0 || v >= 99.95:
		return fmt.Sprintf("%.0f%s", v, units[i])
	case v >= 9.995:
		return fmt.Sprintf("%.1f%s", v, units[i])
	}
	return fmt.Sprintf("%.2f%s", v, units[i])
}
