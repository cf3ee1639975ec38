package mtp

import "github.com/glmconv/glmconv/glm"

// State is what a checkpoint's MTP layer is and what it lacks.
type State struct {
	Layer       int      `json:"layer"`
	EmbedTokens bool     `json:"embed_tokens"` // its own copy of the embedding is stored
	SharedHead  bool     `json:"shared_head"`  // its own copy of the head is stored
	File        string   `json:"file"`         // shard that holds eh_proj
	Complete    bool     `json:"complete"`     // every tensor but the two copies is there
	Declared    bool     `json:"declared"`     // config.json has num_nextn_predict_layers
	Lacks       []string `json:"lacks"`        // names of the copies that are not stored
}

// StateOf reads the state off a described checkpoint; nil if it has no MTP
// layer and declares none.
func StateOf(m *glm.Model) *State {
	if m.MTP == nil {
		return nil
	}
	s := &State{
		Layer: m.MTP.Layer, EmbedTokens: m.MTP.EmbedTokens, SharedHead: m.MTP.SharedHead,
		File: m.MTP.File, Complete: m.MTP.Complete, Declared: m.Config.MTPDeclared,
	}
	embed, head := m.Config.MTPNames(s.Layer)
	if !s.EmbedTokens {
		s.Lacks = append(s.Lacks, embed)
	}
	if !s.SharedHead {
		s.Lacks = append(s.Lacks, head)
	}
	return s
}

// Ready reports whether every engine finds what it needs: the layer complete
// and both copies stored.
func (s *State) Ready() bool { return s != nil && s.Complete && len(s.Lacks) == 0 }
