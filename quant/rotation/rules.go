package rotation

import (
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
)

// ErrImpossible is wrapped by errors about models that no rotation keeps.
var ErrImpossible = errors.New("cannot be rotated")

// WeightName is the tensor by which engines multiply the draft's input.
const WeightName = layout.DraftRotation

// Set are the rotations of a model. Only Stream is needed; the others are nil
// where a part is not rotated.
type Set struct {
	Stream Matrix    // Q, of hidden_size
	Query  Matrix    // latent attention: of q_lora_rank, between q_a_proj and what reads its norm
	Latent Matrix    // of kv_lora_rank, between kv_a_proj and kv_b_proj
	Value  Matrix    // of v_head_dim, between the value rows of kv_b_proj and o_proj, for each head
	Folds  *fold.Set // powers of two that move between tensors before all that; nil: none
}

// seed of the signs: that of msmodelslim.
const seed = 1234

// New returns the rotations that a model is given. drafts says that its MTP
// layer is kept. The error wraps ErrImpossible: tied embeddings have one matrix
// for two bases, a vision tower writes into the stream, and only the engines of
// glm_moe_dsa multiply the draft's input by rot.weight.
func New(cfg *glm.Config, drafts bool) (*Set, error) {
	switch {
	case cfg.TieEmbeddings:
		return nil, fmt.Errorf("rotation: embedding and head are one tensor, and the gains of the final norm belong to the head alone: %w", ErrImpossible)
	case cfg.Vision != nil:
		return nil, fmt.Errorf("rotation: the vision tower writes into the residual stream and is kept as it is: %w", ErrImpossible)
	case drafts && cfg.MTPLayers > 0 && !cfg.SparseAttention():
		return nil, fmt.Errorf("rotation: the MTP layer reads states after the final norm, whose gains a rotation moves into the head; no engine has rot.weight for %s (leave the layer out): %w",
			cfg.Family, ErrImpossible)
	}
	s := &Set{}
	for _, x := range []struct {
		n  int
		to *Matrix
	}{{cfg.HiddenSize, &s.Stream}, {cfg.QLoraRank, &s.Query}, {cfg.KVLoraRank, &s.Latent}, {cfg.VHeadDim, &s.Value}} {
		if x.n == 0 || x.to != &s.Stream && !cfg.LatentAttention() {
			continue
		}
		h, err := NewHadamard(x.n, seed)
		if err != nil {
			return nil, err
		}
		*x.to = h
	}
	return s, nil
}

// block is a rotation of some rows or columns.
type block struct {
	at int
	m  Matrix
}

// change is what becomes of a tensor: columns times gains, columns rotated, rows
// rotated; or it is a norm whose gains are elsewhere.
type change struct {
	ones        bool
	gains       []string // norms of the columns, one after the other
	right, left []block
}

// same reports whether the tensor stays as it is.
func (c *change) same() bool {
	return !c.ones && c.gains == nil && c.right == nil && c.left == nil
}

// norms are the names of those of a layer.
type norms struct{ in, post, query, latent, embed, hidden, head string }

// rules are the changes of all tensors of a model.
type rules struct {
	cfg    *glm.Config
	set    *Set
	layers map[int]*norms
	final  string
}

func newRules(cfg *glm.Config, set *Set) *rules {
	r := &rules{cfg: cfg, set: set, layers: map[int]*norms{}}
	first := func(name string, places ...*string) {
		for _, p := range places {
			if *p == "" {
				*p = name
				return
			}
		}
	}
	table := cfg.Table()
	for i := range table {
		t := &table[i]
		n := r.layers[t.Layer]
		if n == nil {
			n = &norms{}
			r.layers[t.Layer] = n
		}
		switch t.Role {
		case glm.FinalNorm:
			r.final = t.Name
		case glm.LayerNorm:
			first(t.Name, &n.in, &n.post)
		case glm.LatentNorm:
			first(t.Name, &n.query, &n.latent)
		case glm.MTPNorm:
			first(t.Name, &n.embed, &n.hidden, &n.head)
		}
	}
	return r
}

// of returns the change of a tensor. Tensors of a kind that no rule names are
// left alone: they touch neither the stream nor a latent.
func (r *rules) of(t *glm.Tensor) (c change) {
	n, q := r.layers[t.Layer], []block{{0, r.set.Stream}}
	if t.Param != "weight" {
		return c // biases of q, k and v are behind the stream
	}
	switch t.Role {
	case glm.LayerNorm, glm.LatentNorm, glm.FinalNorm, glm.MTPNorm:
		c.ones = true
	case glm.Embedding, glm.MTPEmbedding:
		c.right = q
	case glm.Head:
		c.gains, c.right = []string{r.final}, q
	case glm.MTPHead:
		c.gains, c.right = []string{n.head}, q
	case glm.MTPProj:
		h := r.cfg.HiddenSize
		c.gains, c.right, c.left = []string{n.embed, n.hidden}, []block{{0, r.set.Stream}, {h, r.set.Stream}}, q
	case glm.AttnQ, glm.AttnK, glm.AttnV, glm.IndexerK, glm.IndexerProj:
		c.gains, c.right = []string{n.in}, q
	case glm.AttnQA:
		c.gains, c.right, c.left = []string{n.in}, q, one(0, r.set.Query)
	case glm.AttnKVA:
		c.gains, c.right, c.left = []string{n.in}, q, one(0, r.set.Latent)
	case glm.AttnQB, glm.IndexerQB:
		c.gains, c.right = []string{n.query}, one(0, r.set.Query)
	case glm.AttnKVB:
		c.gains, c.right = []string{n.latent}, one(0, r.set.Latent)
		for h := range r.cfg.Heads {
			c.left = append(c.left, one(h*(r.cfg.QKNopeHeadDim+r.cfg.VHeadDim)+r.cfg.QKNopeHeadDim, r.set.Value)...)
		}
	case glm.AttnO:
		c.left = q
		for h := range r.cfg.Heads {
			c.right = append(c.right, one(h*r.cfg.VHeadDim, r.set.Value)...)
		}
	case glm.DenseGate, glm.DenseUp, glm.ExpertGate, glm.ExpertUp, glm.SharedGate, glm.SharedUp, glm.Router:
		c.gains, c.right = []string{n.post}, q
	case glm.DenseDown, glm.ExpertDown, glm.SharedDown:
		c.left = q
	}
	return c
}

func one(at int, m Matrix) []block {
	if m == nil {
		return nil
	}
	return []block{{at, m}}
}
