package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// What the words of GPTQ and AWQ mean depends on more than their sizes: on the
// order of the codes, on zero points, and on the group of each column. Engines
// take all three from the declaration and pass over what is stored
// (docs/facts/formats.md 6.3).

// wordPackings are the packings in words of 32 bits that have names of their own.
var wordPackings = []format.Packing{format.Words, format.GPTQWords, format.GPTQv2Words, format.AWQWords}

// checkWords compares the order of a module's codes with the declared one: GPTQ
// and AWQ have equal names for tensors of different shapes.
func (s *subject) checkWords(m *module) {
	if m.stored == nil { // as without a declaration
		return
	}
	g := s.decl.Of(m.row.Module).Group
	if g == nil || !g.Judged {
		return
	}
	said, is := g.Weights.Packing, m.stored.Quant.Packing
	if said == is || !slices.Contains(wordPackings, said) || !slices.Contains(wordPackings, is) {
		return
	}
	s.add("weight-encoding", m.row.Module, "the config (%s) says %s, %s %v is in %s, beside scales %v: the shapes are not those that are built",
		m.group, said, m.stored.Codes.Name, m.stored.Codes.Shape, is, m.stored.Scale.Shape)
}

// wordJobs read zero points and orders of columns.
func (s *subject) wordJobs(m *module) (jobs []job) {
	st := m.stored
	if st == nil || st.Format != layout.GPTQ && st.Format != layout.AWQ {
		return nil
	}
	if st.Zeros.Name != "" && !st.Quant.ZeroPoints {
		jobs = append(jobs, job{st.Zeros.Size, reading(st.Zeros.Name, "zero-point-wrong", func() error { return st.CheckZeros(s.ckpt) })})
	}
	g := s.decl.Of(m.row.Module).Group
	switch ordered := g != nil && g.Order == "group"; {
	case st.Order.Name != "":
		jobs = append(jobs, job{st.Order.Size, reading(st.Order.Name, "code-range", func() error {
			order, err := st.ReadOrder(s.ckpt)
			if err != nil || order == nil || ordered {
				return err
			}
			return &orderError{s.decl.Root}
		})})
	case ordered && st.Quant.Strategy == format.Group:
		jobs = append(jobs, job{0, reading(m.row.Module+".g_idx", "companion-missing", func() error { return errNoOrder })})
	}
	return jobs
}

// errNoOrder: columns were put in an order that is not stored.
var errNoOrder = errors.New("desc_act says that columns were put in an order of their own, and it is not stored: which scale a column has is not known, and engines take what stands in memory")

// orderError is an order of columns that engines pass over.
type orderError struct{ root string }

func (e *orderError) Error() string {
	return fmt.Sprintf("its columns are in groups of an order of their own, and %s.desc_act is not true: engines pass over the order and multiply most columns by another group's scale", e.root)
}

// reading makes a job's function of one that reads: what is wrong with the
// tensor is a finding.
func reading(where, code string, read func() error) func(context.Context) ([]Finding, error) {
	return func(context.Context) ([]Finding, error) {
		err := read()
		var order *orderError
		switch {
		case err == nil:
			return nil, nil
		case errors.As(err, &order):
			return []Finding{found("order-undeclared", where, err.Error())}, nil
		case errors.Is(err, layout.ErrMalformed), errors.Is(err, errNoOrder):
			return []Finding{found(code, where, strings.TrimPrefix(reason(err), where+": "))}, nil
		case errors.Is(err, layout.ErrForeign):
			return []Finding{found("companion-dtype", where, reason(err))}, nil
		}
		return nil, err
	}
}

// reason is what an error of package layout says of a tensor.
func reason(err error) string {
	text := strings.TrimPrefix(err.Error(), "layout: ")
	for _, kind := range []error{layout.ErrMalformed, layout.ErrForeign} {
		text = strings.TrimSuffix(text, ": "+kind.Error())
	}
	return text
}
