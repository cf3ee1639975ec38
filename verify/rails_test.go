package verify

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/verify/stats"
)

func TestOver(t *testing.T) {
	rows := make([]stats.Row, 2000)
	for i := range 3 {
		rows[i].KL = 1
	}
	n, most := over(rows, 0.5)
	assert.Equal(t, 3, n)
	assert.Equal(t, 5, most, "of two expected, P(X > 5) is 1.7 %, P(X > 4) 5.3 %")
	_, most = over(rows[:448], 0.5)
	assert.Equal(t, 2, most)
	n, most = over(rows, 0)
	assert.Equal(t, 3, n)
	assert.Zero(t, most, "copies have no tail")
}

func TestClearFlips(t *testing.T) {
	flip := stats.Row{Top1: 1, Other: 2, Sigma: 2, NRMSE: 0.05} // the error of a difference is 0.14
	near, clear := flip, flip
	near.Margin, clear.Margin = 0.1, 1
	same := clear
	same.Other = 1
	assert.Zero(t, clearFlips([]stats.Row{near, same}))
	assert.InDelta(t, 0.25, clearFlips([]stats.Row{near, same, clear, same}), 1e-12)
	assert.Zero(t, clearFlips(nil))
}
