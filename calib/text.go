package calib

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/share"
)

// Cut puts the token ids of documents one after the other and takes pieces of n
// tokens spread evenly over them, tokens in all at most. An id outside of the
// vocabulary matches ErrStatistics.
func Cut(cfg *glm.Config, docs [][]int, tokens, n int) (seqs [][]int, err error) {
	ids := slices.Concat(docs...)
	if err := checkIDs(cfg, [][]int{ids}); err != nil {
		return nil, err
	}
	if len(ids) < 2 {
		return nil, nil
	}
	return share.Pieces(ids, tokens, n), nil
}

// Take checks sequences of ids and takes the first ones, tokens in all at most.
// Sequences of one token say nothing and are left out.
func Take(cfg *glm.Config, ids [][]int, tokens int) (seqs [][]int, err error) {
	if err := checkIDs(cfg, ids); err != nil {
		return nil, err
	}
	for _, s := range ids {
		if s = s[:min(len(s), tokens)]; len(s) > 1 {
			seqs = append(seqs, s)
			tokens -= len(s)
		}
	}
	return seqs, nil
}

func checkIDs(cfg *glm.Config, seqs [][]int) error {
	for i, s := range seqs {
		for j, id := range s {
			if id < 0 || id >= cfg.VocabSize {
				return fmt.Errorf("%w: sequence %d, token %d is %d, the vocabulary has %d", ErrStatistics, i, j, id, cfg.VocabSize)
			}
		}
	}
	return nil
}

// TextID is the SHA-256 of sequences of token ids.
func TextID(seqs [][]int) string { return idsHash(seqs) }

// Part returns part i of n of sequences, and the number of its first.
func Part(seqs [][]int, i, n int) (part [][]int, first int) {
	lo, hi := (i-1)*len(seqs)/n, i*len(seqs)/n
	return seqs[lo:hi], lo
}

// Coverage says how many tokens the routed experts saw.
type Coverage struct {
	Layer   int   `json:"layer"`
	Experts int   `json:"experts"`
	Least   int64 `json:"least"`
	Median  int64 `json:"median"`
	Rare    int   `json:"rare"` // experts with fewer than 64 tokens
}

// Coverage returns that of every layer with experts.
func (s *Statistics) Coverage(cfg *glm.Config) ([]Coverage, error) {
	var out []Coverage
	for l := range cfg.Layers + cfg.MTPLayers {
		var counts []int64
		for e := range cfg.Experts {
			if t := s.find(cfg, l, glm.ExpertGate, e); t != nil {
				m, err := s.moments(t.Name, false)
				if err != nil {
					return nil, err
				}
				if m == nil {
					m = &Moments{}
				}
				counts = append(counts, m.Count)
			}
		}
		if len(counts) == 0 {
			continue
		}
		out = append(out, coverageOf(l, counts))
	}
	return out, nil
}

func coverageOf(layer int, counts []int64) Coverage {
	c := Coverage{Layer: layer, Experts: len(counts)}
	sorted := append([]int64(nil), counts...)
	for _, n := range sorted {
		if n < rare {
			c.Rare++
		}
	}
	slices.Sort(sorted)
	c.Least, c.Median = sorted[0], sorted[len(sorted)/2]
	return c
}
