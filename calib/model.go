package calib

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime"
)

// model is one of the two models, and what is seen inside.
type model struct {
	*runtime.Model
	see func(w *glm.Tensor, rows int, x func() []float32) error

	dir        string // of its states
	base, rows int    // of the chunk that is computed: its first row, and how many
}

func (s *solver) model(p runtime.Provider, name string) (m *model, err error) {
	if p == nil {
		if p, err = s.src.provider(s.plan.Config); err != nil {
			return nil, err
		}
	}
	m = &model{dir: filepath.Join(s.o.Scratch, name)}
	m.Model, err = runtime.New(s.plan.Config, p, runtime.Options{Threads: s.o.Workers, Block: s.block,
		Observe: func(w *glm.Tensor, rows int, x func() []float32) error {
			if m.see == nil {
				return nil
			}
			return m.see(w, rows, x)
		}})
	return m, err
}

// chunks reads a model's states in front of a layer, as many sequences at a time
// as there is room for. skip is how many rows of each
// sequence are not counted.
func (s *solver) chunks(m *model, l, skip int, do func(seqs [][]int, x []float32, spans []runtime.Span) error) error {
	from, err := openStates(m.dir, l, s.store.id)
	if err != nil {
		return err
	}
	defer from.close()
	h := s.plan.Config.HiddenSize
	all := s.o.Sequences
	m.base, m.rows = 0, 0
	for at := 0; at < len(all); {
		n, rows := at, 0
		for ; n < len(all) && (n == at || rows+len(all[n]) <= s.chunk); n++ {
			rows += len(all[n])
		}
		x, spans := make([]float32, rows*h), make([]runtime.Span, n-at)
		rest := x
		for i, q := range all[at:n] {
			if spans[i], err = from.next(len(q), rest[:len(q)*h]); err != nil {
				return fmt.Errorf("%s: %w", m.dir, err)
			}
			rest = rest[len(q)*h:]
		}
		m.base += m.rows
		m.rows = rows - skip*(n-at)
		if err := do(all[at:n], x, spans); err != nil && !errors.Is(err, errSeen) {
			return err
		}
		at = n
	}
	return nil
}
