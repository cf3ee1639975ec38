package runtime

import (
	"context"

	"github.com/glmconv/glmconv/runtime/kernel"
)

// EvalOptions say what Evaluate keeps.
type EvalOptions struct {
	Logits bool // logits of every position
	Hidden bool // residual stream after every layer
	Router bool // experts of every token
	Keys   bool // tokens that each indexer chose
	MTP    int  // teacher-forced draft steps
	// MTPPreNorm carries the state before shared_head.norm from draft step to
	// draft step (vLLM's glm4_moe).
	MTPPreNorm bool
	// Rescore makes every draft step choose its own tokens where the config
	// says to share (index_share_for_mtp_iteration).
	Rescore bool
	Media   []*Media // of each sequence, nil entries for text; nil when all are text
}

// Evaluation is what Evaluate found for one sequence of T tokens.
type Evaluation struct {
	Final  []float32           // [T, H] after model.norm
	Logits []float32           // [T, V]
	Hidden [][]float32         // 0: embedding rows, l: after layer l−1; [T, H] each
	Router map[int][]Selection // by layer, dense ones missing; T each
	// MTP[k−1] are the logits of draft step k, [T−k, V]: row p sits at slot p,
	// reads token t[p+k] and predicts t[p+k+1].
	MTP       [][]float32
	MTPRouter []Selection // experts of the MTP layer at step 1, T−1
	// Keys are the slots that every row attends to, rising, by layer with an
	// indexer (glm_moe_dsa); T each. MTPKeys: the MTP layer at step 1, T−1.
	Keys    map[int][][]int32
	MTPKeys [][]int32
}

// Selection is the experts of one token by falling weight.
type Selection struct {
	Experts []int32
	Weights []float32
}

// Evaluate runs whole sequences through the model in one layer-major pass, so
// that each weight is read once, and returns what o asks for.
func (m *Model) Evaluate(ctx context.Context, seqs [][]int, o EvalOptions) ([]Evaluation, error) {
	out := make([]Evaluation, len(seqs))
	steps := make([]Step, len(seqs))
	for i, s := range seqs {
		steps[i] = Step{m.NewSession(), s}
		if o.Media != nil {
			steps[i].Session.media = o.Media[i]
		}
		if o.Router {
			out[i].Router = map[int][]Selection{}
		}
		if o.Keys {
			out[i].Keys = map[int][][]int32{}
		}
	}
	h := m.cfg.HiddenSize
	x, err := m.forward(ctx, steps, o.trace(seqs, out), func(l int, x []float32) {
		if l > 0 {
			for _, s := range steps { // the layer is done: nobody reads its cache again
				s.Session.caches[l-1].release()
			}
		}
		if !o.Hidden {
			return
		}
		for i, at := 0, 0; i < len(seqs); i++ {
			n := len(seqs[i]) * h
			out[i].Hidden = append(out[i].Hidden, append([]float32(nil), x[at:at+n]...))
			at += n
		}
	})
	if err != nil {
		return nil, err
	}
	if x, err = m.FinalNorm(x); err != nil {
		return nil, err
	}
	at := 0
	for i, s := range seqs {
		out[i].Final = x[at*h : (at+len(s))*h]
		at += len(s)
		if o.Logits {
			if out[i].Logits, err = m.Logits(ctx, out[i].Final); err != nil {
				return nil, err
			}
		}
	}
	if o.MTP > 0 {
		err = m.evaluateMTP(ctx, seqs, out, o)
	}
	return out, err
}

// trace puts what routers and indexers choose where it belongs.
func (o *EvalOptions) trace(seqs [][]int, out []Evaluation) *Trace {
	split := rowSplitter(seqs)
	tr := &Trace{}
	if o.Router {
		tr.Router = func(layer, row int, e []int32, w []float32) {
			x := &out[split(row)]
			x.Router[layer] = append(x.Router[layer], Selection{e, w})
		}
	}
	if o.Keys {
		tr.Keys = func(layer, row int, k []int32) {
			x := &out[split(row)]
			x.Keys[layer] = append(x.Keys[layer], k)
		}
	}
	return tr
}

// rowSplitter returns a function from a row of the pass to its sequence.
func rowSplitter(seqs [][]int) func(row int) int {
	ends := make([]int, len(seqs))
	n := 0
	for i, s := range seqs {
		n += len(s)
		ends[i] = n
	}
	return func(row int) int {
		i := 0
		for row >= ends[i] {
			i++
		}
		return i
	}
}

// evaluateMTP runs the teacher-forced draft steps. Step 1 fills a cache with
// the true states; a later step of slot p sees the step-1 keys of slots up to p
// and its own later ones, like an engine that rewinds the draft cache after
// each verification.
func (m *Model) evaluateMTP(ctx context.Context, seqs [][]int, out []Evaluation, o EvalOptions) error {
	mtp, err := m.MTP()
	if err != nil {
		return err
	}
	states := make([][]float32, len(seqs))
	for i := range out {
		states[i] = out[i].Final
	}
	d := NewDraftEval(mtp, seqs, states)
	d.PreNorm = o.MTPPreNorm
	d.ShareKeys = d.ShareKeys && !o.Rescore
	for k := 1; k <= o.MTP; k++ {
		var tr *Trace
		if k == 1 {
			split := rowSplitter(d.seqs1())
			tr = &Trace{}
			if o.Router {
				tr.Router = func(_, row int, e []int32, w []float32) {
					x := &out[split(row)]
					x.MTPRouter = append(x.MTPRouter, Selection{e, w})
				}
			}
			if o.Keys {
				tr.Keys = func(_, row int, k []int32) {
					x := &out[split(row)]
					x.MTPKeys = append(x.MTPKeys, k)
				}
			}
		}
		g, err := d.Next(ctx, tr)
		if err != nil {
			return err
		}
		for i := range seqs {
			z, err := mtp.Logits(ctx, g[i])
			if err != nil {
				return err
			}
			out[i].MTP = append(out[i].MTP, z)
		}
	}
	return nil
}

// DraftEval runs the MTP layer teacher-forced over whole sequences, one draft
// step after the other, all slots of all sequences in one pass each.
type DraftEval struct {
	PreNorm bool // carry the state before shared_head.norm (vLLM's glm4_moe)
	// ShareKeys makes later steps attend to what the first step of their slot
	// attended to; NewDraftEval sets it as the config says.
	ShareKeys bool

	mtp    *MTP
	seqs   [][]int
	states [][]float32 // what the next step reads
	k      int
	first  []*LayerCache   // step 1, by sequence
	forks  [][]*LayerCache // later steps, by sequence and slot
	keys   [][][]int32     // of step 1, by sequence and slot
}

// NewDraftEval starts at step 1. states are the trunk's after model.norm,
// [T, H] for each sequence.
func NewDraftEval(mtp *MTP, seqs [][]int, states [][]float32) *DraftEval {
	d := &DraftEval{mtp: mtp, seqs: seqs, states: states, ShareKeys: mtp.m.cfg.IndexShareForMTP}
	for range seqs {
		d.first = append(d.first, &LayerCache{})
	}
	d.forks = make([][]*LayerCache, len(seqs))
	return d
}

// seqs1 are the sequences without their last token: the slots of step 1.
func (d *DraftEval) seqs1() [][]int {
	out := make([][]int, len(d.seqs))
	for i, s := range d.seqs {
		out[i] = s[:max(0, len(s)-1)]
	}
	return out
}

// Next runs the next step k = 1, 2, … and returns for each sequence the states
// after shared_head.norm [T−k, H], which MTP.Logits takes: row p sits at slot p
// and predicts t[p+k+1].
func (d *DraftEval) Next(ctx context.Context, tr *Trace) ([][]float32, error) {
	d.k++
	h := d.mtp.m.cfg.HiddenSize
	var ids []int
	var x []float32
	var spans []Span
	for i, s := range d.seqs {
		n := max(0, len(s)-d.k)
		ids = append(ids, s[len(s)-n:]...)
		x = append(x, d.states[i][:n*h]...)
		if d.k == 1 {
			spans = append(spans, Span{Cache: d.first[i], N: n})
			continue
		}
		for p := range n {
			if d.k == 2 {
				d.forks[i] = append(d.forks[i], d.first[i].Fork(p+1))
			}
			s := Span{Cache: d.forks[i][p], N: 1, Pos: p + d.k - 1}
			if d.ShareKeys && len(d.keys[i]) > p {
				s.Keys, s.Reuse = d.keys[i][p:p+1], true
			}
			spans = append(spans, s)
		}
	}
	z, g, err := d.mtp.Step(ctx, ids, x, spans, tr)
	if err != nil {
		return nil, err
	}
	if d.k == 1 {
		for _, s := range spans {
			d.keys = append(d.keys, s.Keys)
		}
	}
	carry := g
	if d.PreNorm {
		carry = z
	}
	out := make([][]float32, len(d.seqs))
	d.states = make([][]float32, len(d.seqs))
	at := 0
	for i, s := range d.seqs {
		n := max(0, len(s)-d.k) * h
		out[i], d.states[i] = g[at:at+n], carry[at:at+n]
		at += n
	}
	return out, nil
}

// Keep forgets all but the first n sequences: those after them were wanted for
// the steps so far.
func (d *DraftEval) Keep(n int) {
	d.seqs, d.states, d.first, d.forks = d.seqs[:n], d.states[:n], d.first[:n], d.forks[:n]
	if len(d.keys) > n {
		d.keys = d.keys[:n]
	}
}

// Top returns the index of the largest logit of each row of z [R, V], the
// lowest among equals.
func Top(z []float32, vocab int) []int {
	out := make([]int, len(z)/vocab)
	for i := range out {
		out[i] = kernel.Argmax(z[i*vocab:][:vocab])
	}
	return out
}
