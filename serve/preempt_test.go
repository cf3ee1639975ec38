package serve

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPreempted: where the cache holds two requests at most, others give their
// pages back and are read again; every client gets what it gets alone, with its
// log-probabilities of the prompt.
func TestPreempted(t *testing.T) {
	for _, drafts := range []int{0, 2} {
		t.Run(fmt.Sprint(drafts, " drafts"), func(t *testing.T) {
			roomy, alone := start(t, Options{Speculative: drafts})
			tight, together := start(t, Options{Speculative: drafts, CacheBytes: 96 * slotBytes(roomy.model, drafts > 0)})
			more := func(i int) string {
				return fmt.Sprintf(`,"max_tokens":30,"temperature":%d,"seed":%d,"presence_penalty":0.5,"prompt_logprobs":1`, i%2, i)
			}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					prompt := counting(18+4*i, 1+i)
					want := ask(t, alone+"/v1/completions", body(prompt, more(i)))
					got := ask(t, together+"/v1/completions", body(prompt, more(i)))
					assert.Equal(t, want.Choices, got.Choices)
					assert.Equal(t, want.Usage, got.Usage)
				})
			}
			wg.Wait()
			assert.Positive(t, tight.metrics.preempted.Load())
			assert.Zero(t, roomy.metrics.preempted.Load())
			assert.EqualValues(t, 4*24, tight.metrics.promptTokens.Load(), "each prompt counts once")
			require.Eventually(t, func() bool { return tight.metrics.usage.Load() == 0 }, 5*time.Second, time.Millisecond)
		})
	}
}
