package spec

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

func load(t *testing.T, name string) *runtime.Model {
	m, err := runtime.Load(testkit.Shared(t, "reference/"+name), runtime.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

type golden struct {
	t *testing.T
	f *safetensors.File
}

func openGolden(t *testing.T, name string) golden {
	f, err := safetensors.OpenFile(testkit.Shared(t, "reference/golden/"+name+"/golden.safetensors"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return golden{t, f}
}

func (g golden) ints(name string) []int {
	info, ok := g.f.Tensor(name)
	require.True(g.t, ok, name)
	b := make([]byte, info.Size)
	require.NoError(g.t, g.f.ReadTensor(info, 0, b))
	out := make([]int, len(b)/4)
	for i := range out {
		out[i] = int(int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return out
}

// TestGolden: plain and speculative greedy text is that of the reference, and
// so is every draft: those of each slot, and with them the number of accepted
// tokens.
func TestGolden(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52"} {
		t.Run(name, func(t *testing.T) {
			m, g := load(t, name), openGolden(t, name)
			mtp, err := m.MTP()
			require.NoError(t, err)
			for j := range 3 {
				prompt, ids := g.ints(fmt.Sprintf("greedy%d.prompt", j)), g.ints(fmt.Sprintf("greedy%d.ids", j))
				drafts := g.ints(fmt.Sprintf("greedy%d.drafts", j))
				plain, err := Generate(ctx, m, prompt, Options{MaxTokens: len(ids) + 3})
				require.NoError(t, err)
				require.Equal(t, ids, plain.Tokens[:len(ids)])
				k := 3 - j
				out, err := Generate(ctx, m, prompt, Options{MaxTokens: len(ids), Drafts: k})
				require.NoError(t, err)
				assert.Equal(t, ids, out.Tokens, "k = %d", k)
				assert.Equal(t, simulate(drafts, prompt, plain.Tokens, k), out.Counters, "k = %d", k)
				if j > 0 {
					continue
				}
				all := append(append([]int{}, prompt...), ids...)
				h, err := m.NewSession().Forward(ctx, all)
				require.NoError(t, err)
				d, width := NewDrafter(mtp, false), m.Config().HiddenSize
				for p := range min(40, len(all)-1) {
					got, err := d.Draft(ctx, all[p+1:p+2], h[p*width:][:width], 3)
					require.NoError(t, err)
					assert.Equal(t, drafts[3*p:][:3], got, "slot %d", p)
				}
			}
		})
	}
}

// simulate counts the passes along a text whose drafts at each slot are known;
// its last three tokens are there for drafts that reach behind its end.
func simulate(drafts, prompt, ids []int, k int) *Counters {
	c := newCounters(k)
	all := append(append([]int{}, prompt...), ids...)
	for p := len(prompt); p+1 < len(all)-3; {
		good := 0
		for good < k && drafts[(p-1)*3+good] == all[p+1+good] {
			good++
		}
		c.add(good)
		p += good + 1
	}
	return c
}
