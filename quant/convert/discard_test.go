package convert

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// TestDiscardByEveryFile: a shard goes with each of the source's files that it is
// made from, those of scales too.
func TestDiscardByEveryFile(t *testing.T) {
	in := func(file string) safetensors.Info { return safetensors.Info{Name: "t", File: file} }
	for _, tc := range []struct {
		name, bad string
		want      []string // shards that stay
	}{
		{"codes", "a.safetensors", []string{"2", "3"}},
		{"scales", "scales.safetensors", []string{"2"}},
		{"another", "sub/b.safetensors", []string{"1", "3"}},
		{"none", "c.safetensors", []string{"1", "2", "3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dst := t.TempDir()
			p := &quant.Plan{Items: []quant.Item{
				{Source: in("a.safetensors"), Action: quant.Decode, Stored: &layout.Stored{Codes: in("a.safetensors"), Scale: in("scales.safetensors")}},
				{Source: in("b.safetensors"), Action: quant.Copy},
				{Source: in("d.safetensors"), Action: quant.Decode, Stored: &layout.Stored{Codes: in("d.safetensors"), Beside: []safetensors.Info{in("scales.safetensors")}}},
			}}
			c := &converter{plan: p, dst: dst, fs: fsx.OS}
			require.NoError(t, os.MkdirAll(filepath.Join(dst, fsx.StateDir), 0o777))
			for i, name := range []string{"1", "2", "3"} {
				f, err := safetensors.PlanFile(name, nil, nil)
				require.NoError(t, err)
				p.Files = append(p.Files, quant.File{Plan: f, Items: []int{i}})
				require.NoError(t, os.WriteFile(filepath.Join(dst, name), nil, 0o666))
				require.NoError(t, os.WriteFile(c.state(name+".json"), nil, 0o666))
			}
			c.discard(&source.Error{Kind: source.ErrRefused, Where: "hf://org/model/" + tc.bad})
			var left []string
			for _, name := range []string{"1", "2", "3"} {
				_, shard := os.Stat(filepath.Join(dst, name))
				_, receipt := os.Stat(c.state(name + ".json"))
				require.Equal(t, shard == nil, receipt == nil, name)
				if shard == nil {
					left = append(left, name)
				}
			}
			assert.Equal(t, tc.want, left)
		})
	}
}
