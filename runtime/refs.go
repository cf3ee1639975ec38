package runtime

import "github.com/glmconv/glmconv/glm"

// refs are the tensors of one decoder layer by what they do; nil where the
// layer has none. They come from the family's table, never from names.
type refs struct {
	layer           int
	inNorm, mlpNorm *glm.Tensor

	q, k, v, o             *glm.Tensor
	qBias, kBias, vBias    *glm.Tensor
	qNorm, kNorm           *glm.Tensor
	gate, up, down         *glm.Tensor // dense MLP
	router, routerBias     *glm.Tensor
	experts                []expertRefs
	shGate, shUp, shDown   *glm.Tensor
	embedNorm, hiddenNorm  *glm.Tensor // MTP: enorm, hnorm
	mtpProj, headNorm      *glm.Tensor // MTP: eh_proj, shared_head.norm
	ownEmbedding, ownHead  *glm.Tensor // MTP copies
	qA, qB, kvA, kvB       *glm.Tensor // MLA
	qANorm, kvANorm        *glm.Tensor
	ixQB, ixK, ixProj      *glm.Tensor // indexer
	ixKNorm, ixKNormOffset *glm.Tensor

	int8 *int8Cache // nil: the cache keeps what it is given
}

type expertRefs struct{ gate, up, down *glm.Tensor }

// modelRefs are the tensors outside of layers, and the layers.
type modelRefs struct {
	embedding, norm, head *glm.Tensor
	layers                []*refs // trunk, then MTP
}

func collectRefs(cfg *glm.Config) *modelRefs {
	m := &modelRefs{layers: make([]*refs, cfg.Layers+cfg.MTPLayers)}
	for i := range m.layers {
		m.layers[i] = &refs{layer: i}
	}
	table := cfg.Table()
	for i := range table {
		t := &table[i]
		switch {
		case t.Role.IsVision():
		case t.Role == glm.Embedding:
			m.embedding = t
		case t.Role == glm.FinalNorm:
			m.norm = t
		case t.Role == glm.Head:
			m.head = t
		case t.Layer >= 0 && t.Layer < len(m.layers):
			m.layers[t.Layer].put(t)
		}
	}
	return m
}

// put files a tensor of a layer. Of tensors with the same role the table's
// order tells which is which: input before post-attention norm, q before k,
// enorm, hnorm, shared_head.norm.
func (r *refs) put(t *glm.Tensor) {
	if t.Role.IsExpert() {
		for len(r.experts) <= t.Expert {
			r.experts = append(r.experts, expertRefs{})
		}
		e := &r.experts[t.Expert]
		*map[glm.Role]**glm.Tensor{glm.ExpertGate: &e.gate, glm.ExpertUp: &e.up, glm.ExpertDown: &e.down}[t.Role] = t
		return
	}
	bias := t.Param == "bias"
	pick := func(weight, biasRef **glm.Tensor) **glm.Tensor {
		if bias {
			return biasRef
		}
		return weight
	}
	first := func(places ...**glm.Tensor) **glm.Tensor {
		for _, p := range places {
			if *p == nil {
				return p
			}
		}
		return places[len(places)-1]
	}
	var p **glm.Tensor
	switch t.Role {
	case glm.LayerNorm:
		p = first(&r.inNorm, &r.mlpNorm)
	case glm.QKNorm:
		p = first(&r.qNorm, &r.kNorm)
	case glm.LatentNorm:
		p = first(&r.qANorm, &r.kvANorm)
	case glm.MTPNorm:
		p = first(&r.embedNorm, &r.hiddenNorm, &r.headNorm)
	case glm.AttnQ:
		p = pick(&r.q, &r.qBias)
	case glm.AttnK:
		p = pick(&r.k, &r.kBias)
	case glm.AttnV:
		p = pick(&r.v, &r.vBias)
	case glm.IndexerKNorm:
		p = pick(&r.ixKNorm, &r.ixKNormOffset)
	default:
		p = r.single(t.Role)
	}
	if p != nil {
		*p = t
	}
}

// single returns the place of a role that a layer has once.
func (r *refs) single(role glm.Role) **glm.Tensor {
	switch role {
	case glm.AttnO:
		return &r.o
	case glm.AttnQA:
		return &r.qA
	case glm.AttnQB:
		return &r.qB
	case glm.AttnKVA:
		return &r.kvA
	case glm.AttnKVB:
		return &r.kvB
	case glm.IndexerQB:
		return &r.ixQB
	case glm.IndexerK:
		return &r.ixK
	case glm.IndexerProj:
		return &r.ixProj
	case glm.DenseGate:
		return &r.gate
	case glm.DenseUp:
		return &r.up
	case glm.DenseDown:
		return &r.down
	case glm.Router:
		return &r.router
	case glm.RouterBias:
		return &r.routerBias
	case glm.SharedGate:
		return &r.shGate
	case glm.SharedUp:
		return &r.shUp
	case glm.SharedDown:
		return &r.shDown
	case glm.MTPProj:
		return &r.mtpProj
	case glm.MTPEmbedding:
		return &r.ownEmbedding
	case glm.MTPHead:
		return &r.ownHead
	}
	return nil
}
