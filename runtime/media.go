package runtime

import (
	"context"
	"fmt"

	"github.com/glmconv/glmconv/runtime/vision"
)

// Media is what pictures and clips add to a prompt: rows that stand in for
// token embeddings, and rope positions. It is read only and can be attached to
// any number of sessions.
type Media struct {
	Positions [][3]int  // of the prompt's tokens: temporal, height, width
	Delta     int       // later token i has position i + Delta on every axis
	Slots     []int     // rising: tokens whose embedding is replaced …
	Rows      []float32 // … by these, [len(Slots), H]
}

// Media runs the vision tower over a prepared prompt.
func (m *Model) Media(ctx context.Context, in *vision.Inputs) (*Media, error) {
	out := &Media{Positions: in.Positions, Delta: in.Delta, Slots: in.Slots}
	for _, p := range in.Items {
		rows, err := m.visionRows(ctx, p)
		if err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, rows...)
	}
	if want := len(in.Slots) * m.cfg.HiddenSize; len(out.Rows) != want {
		return nil, &Error{Where: "vision tower", Reason: fmt.Sprintf("%d rows for %d placeholders", len(out.Rows)/m.cfg.HiddenSize, len(in.Slots)), Kind: ErrUnsupported}
	}
	return out, nil
}

// Attach makes the next tokens of an empty session those of a prompt with
// media. The tokens themselves (vision.Inputs.IDs) still go through Forward.
func (s *Session) Attach(media *Media) error {
	if s.Len() > 0 {
		return &Error{Reason: "media belong to the beginning of a sequence, this session has tokens already", Kind: ErrUnsupported}
	}
	s.media = media
	return nil
}

// at returns the positions of n tokens from slot start on; nil for text.
func (d *Media) at(start, n int) [][3]int {
	if d == nil {
		return nil
	}
	out := make([][3]int, n)
	for i := range out {
		if t := start + i; t < len(d.Positions) {
			out[i] = d.Positions[t]
		} else {
			out[i] = [3]int{t + d.Delta, t + d.Delta, t + d.Delta}
		}
	}
	return out
}

// inject replaces embeddings at placeholders and returns the positions of each
// step's rows.
func (m *Model) inject(x []float32, steps []Step, start []int) [][][3]int {
	at := make([][][3]int, len(steps))
	h, row := m.cfg.HiddenSize, 0
	for i, s := range steps {
		n := len(s.IDs)
		if d := s.Session.media; d != nil {
			at[i] = d.at(start[i], n)
			for j, slot := range d.Slots {
				if k := slot - start[i]; k >= 0 && k < n {
					copy(x[(row+k)*h:][:h], d.Rows[j*h:])
				}
			}
		}
		row += n
	}
	return at
}
