package runtime

import (
	"context"
	"fmt"

	"github.com/glmconv/glmconv/glm"
)

// MTP is the multi-token-prediction layer (docs/facts/families.md 5). One step
// reads at slot p the token t[p+1] and the hidden state of slot p, and predicts
// t[p+2].
type MTP struct {
	m                *Model
	l                *refs
	embedding, head  *glm.Tensor
	rotation         *glm.Tensor // of the hidden states, nil unless the checkpoint is rotated
	missing          int
	OwnEmbed, OwnOut bool // the layer has its own embed_tokens, shared_head.head
}

func newMTP(m *Model, l *refs, missing int) *MTP {
	t := &MTP{m: m, l: l, embedding: m.refs.embedding, head: m.refs.head, missing: missing}
	if t.OwnEmbed = m.p.Has(l.ownEmbedding); t.OwnEmbed {
		t.embedding = l.ownEmbedding
	}
	if t.OwnOut = m.p.Has(l.ownHead); t.OwnOut {
		t.head = l.ownHead
	}
	if r := rotation(m.cfg); m.p.Has(r) {
		t.rotation = r
	}
	return t
}

// MTP returns the MTP layer. The error matches ErrNoMTP if the config declares
// none, ErrIncomplete if tensors of it are missing.
func (m *Model) MTP() (*MTP, error) {
	if m.mtp == nil {
		return nil, &Error{Reason: "the checkpoint has no MTP layer, nothing can draft", Kind: ErrNoMTP}
	}
	if m.mtp.missing > 0 {
		return nil, &Error{Where: fmt.Sprintf("MTP layer %d", m.mtp.l.layer), Reason: fmt.Sprintf("%d tensors are missing", m.mtp.missing), Kind: ErrIncomplete}
	}
	return m.mtp, nil
}

// Step runs the layer on R slots: ids are the tokens one place ahead of the
// slots, h [R, H] the hidden states at them: of the trunk after model.norm, or
// what the previous draft step carries. It returns the states before and after
// shared_head.norm, both [R, H]. Where the checkpoint is rotated (rot.weight), h
// is multiplied by it first. The draft's logits come of the latter, which
// is also what the next step carries (vLLM's glm4_moe carries the former:
// docs/facts/engine-vllm.md 3).
func (t *MTP) Step(ctx context.Context, ids []int, h []float32, spans []Span, tr *Trace) (z, g []float32, err error) {
	m, width := t.m, t.m.cfg.HiddenSize
	e, err := m.embed(t.embedding, ids)
	if err != nil {
		return nil, nil, err
	}
	if e, err = m.norm(e, t.l.embedNorm); err != nil {
		return nil, nil, err
	}
	if t.rotation != nil { // vllm-ascend 0.18 models/deepseek_mtp.py: in front of the predictor, at every step
		if h, err = m.linear(ctx, m.input(h, width), t.rotation, nil); err != nil {
			return nil, nil, err
		}
	}
	if h, err = m.norm(h, t.l.hiddenNorm); err != nil {
		return nil, nil, err
	}
	both := make([]float32, 2*len(e)) // embedding first
	for i := 0; i < len(e); i += width {
		copy(both[2*i:], e[i:i+width])
		copy(both[2*i+width:], h[i:i+width])
	}
	if z, err = m.linear(ctx, m.input(both, 2*width), t.l.mtpProj, nil); err != nil {
		return nil, nil, err
	}
	if err = m.layer(ctx, t.l, z, spans, tr); err != nil {
		return nil, nil, err
	}
	g, err = m.norm(z, t.l.headNorm)
	return z, g, err
}

// Next returns the span of the draft step after s, one token further. Where the
// config asks for it (index_share_for_mtp_iteration), the step attends to the
// tokens that the last row of s attended to.
func (t *MTP) Next(s Span) Span {
	n := Span{Cache: s.Cache, N: 1, Pos: s.Pos + s.N}
	if len(s.Keys) > 0 && t.m.cfg.IndexShareForMTP {
		n.Keys, n.Reuse = s.Keys[len(s.Keys)-1:], true
	}
	return n
}

// Logits returns the draft's logits [R, V] of states after shared_head.norm.
func (t *MTP) Logits(ctx context.Context, g []float32) ([]float32, error) {
	return t.m.linear(ctx, t.m.input(g, t.m.cfg.HiddenSize), t.head, nil)
}
