package runtime

import (
	"context"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Trace receives what happens inside a forward pass. Fields may be nil.
type Trace struct {
	// Router gets the experts of one row by falling weight. The slices are the
	// callee's to keep. Rows come in order.
	Router func(layer, row int, experts []int32, weights []float32)
	// Keys gets the tokens that one row of a layer with an indexer attends to,
	// by slot in rising order. Rows come in order. The slice is shared: read
	// only.
	Keys func(layer, row int, keys []int32)
}

// keys reports what a layer's indexer chose.
func (tr *Trace) keys(l *refs, spans []Span) {
	if tr == nil || tr.Keys == nil || l.ixK == nil {
		return
	}
	row := 0
	for _, s := range spans {
		for _, k := range s.Keys {
			tr.Keys(l.layer, row, k)
			row++
		}
	}
}

// choice is a token's place among those of an expert.
type choice struct {
	row    int32
	weight float32
}

// route computes the experts of every row: choices[e] are the tokens of expert
// e in row order. Router logits are float32 products with the stored weight,
// whatever the rest of the model is quantised to.
func (m *Model) route(ctx context.Context, l *refs, in *input, tr *Trace) ([][]choice, error) {
	logits, err := m.linear(ctx, in, l.router, nil)
	if err != nil {
		return nil, err
	}
	r := kernel.Routing{TopK: m.cfg.ExpertsPerToken, Groups: m.cfg.NGroup, TopGroups: m.cfg.TopKGroup,
		Normalize: m.cfg.NormTopK, Scale: float32(m.cfg.RoutedScaling)}
	if l.routerBias != nil {
		if r.SelectionBias, err = m.p.Vector(l.routerBias); err != nil {
			return nil, err
		}
	}
	experts := int(l.router.Shape[0])
	choices := make([][]choice, experts)
	for i := range in.rows {
		ids, weights := r.Route(nil, nil, logits[i*experts:][:experts])
		for k, e := range ids {
			choices[e] = append(choices[e], choice{int32(i), weights[k]})
		}
		if tr != nil && tr.Router != nil {
			tr.Router(l.layer, i, ids, weights)
		}
	}
	return choices, nil
}

// routed computes the weighted sum of the routed experts. Tokens are grouped
// by expert, so that each expert's weights are passed over once; a token's sum
// runs over its experts in order of their number, whatever else is in the
// batch.
func (m *Model) routed(ctx context.Context, l *refs, in *input, tr *Trace) ([]float32, error) {
	choices, err := m.route(ctx, l, in, tr)
	if err != nil {
		return nil, err
	}
	h := m.cfg.HiddenSize
	y := make([]float32, in.rows*h)
	var next []*glm.Tensor
	for e, tokens := range choices {
		if x := l.experts[e]; len(tokens) > 0 {
			next = append(next, x.gate, x.up, x.down)
		}
	}
	m.prefetch(append(next, l.shGate, l.shUp, l.shDown)...)
	for e, tokens := range choices {
		if len(tokens) == 0 {
			continue
		}
		x := l.experts[e]
		out, err := m.swiglu(ctx, in.gather(rowsOf(tokens)), x.gate, x.up, x.down)
		if err != nil {
			return nil, err
		}
		m.weigh(y, out, tokens)
	}
	return y, nil
}

func rowsOf(tokens []choice) []int32 {
	rows := make([]int32, len(tokens))
	for i, t := range tokens {
		rows[i] = t.row
	}
	return rows
}

// weigh adds what an expert made of its tokens to their rows of y.
func (m *Model) weigh(y, out []float32, tokens []choice) {
	h := m.cfg.HiddenSize
	m.eachRow(len(tokens), h, func(lo, hi int) {
		for i, t := range tokens[lo:hi] {
			kernel.Axpy(y[int(t.row)*h:][:h], t.weight, out[(lo+i)*h:][:h])
		}
	})
}

// fewRows is up to how many rows experts are computed all at once: more take
// memory in proportion, and each expert's work is enough for itself.
const fewRows = 64

// together is routed and shared experts for few rows: the projections of all
// experts that are chosen in one go, with the same sums in the same order.
func (m *Model) together(ctx context.Context, l *refs, in *input, tr *Trace) ([]float32, error) {
	choices, err := m.route(ctx, l, in, tr)
	if err != nil {
		return nil, err
	}
	var mlps []expertRefs
	var tokens [][]choice
	var jobs []job
	add := func(in *input, x expertRefs) {
		mlps = append(mlps, x)
		jobs = append(jobs, job{in: in, w: x.gate}, job{in: in, w: x.up})
	}
	for e, t := range choices {
		if len(t) > 0 {
			tokens = append(tokens, t)
			add(in.gather(rowsOf(t)), l.experts[e])
		}
	}
	if l.shGate != nil {
		add(in, expertRefs{l.shGate, l.shUp, l.shDown})
	}
	if err := m.linears(ctx, jobs); err != nil {
		return nil, err
	}
	downs := make([]job, len(mlps))
	for i, x := range mlps {
		downs[i] = job{in: m.activate(jobs[2*i].y, jobs[2*i+1].y, x.gate), w: x.down}
	}
	if err := m.linears(ctx, downs); err != nil {
		return nil, err
	}
	y := make([]float32, in.rows*m.cfg.HiddenSize)
	for i, t := range tokens {
		m.weigh(y, downs[i].y, t)
	}
	if l.shGate != nil {
		kernel.Add(y, downs[len(downs)-1].y)
	}
	return y, nil
}
