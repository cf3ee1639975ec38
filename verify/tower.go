package verify

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/vision"
)

// Tower compares the vision towers of two glm4v_moe checkpoints on built-in
// pictures and a clip. No scheme quantises a tower and no engine expects one
// that is, so its rows must be equal to the last bit; text logits cannot see it
// at all.
type Tower struct {
	Prompts  int     `json:"prompts"`
	Rows     int     `json:"rows"`     // embeddings compared
	Exact    bool    `json:"exact"`    // every one equal to the last bit
	Relative float64 `json:"relative"` // ‖result − source‖/‖source‖ of the worst prompt, the largest float64 if not finite
	Worst    int     `json:"worst"`    // that prompt
	// Settings is what differs between the preprocessor files, "" for nothing.
	Settings string `json:"settings"`
}

// probePrompts are the prompts of CompareTowers: three pictures and a clip.
const probePrompts = 4

// VisionModel is one side of [CompareTowers]: a checkpoint, which may have a
// vision tower.
type VisionModel struct {
	Dir   string // of the preprocessor files
	Model *runtime.Model
}

// CompareTowers runs both towers over vision.Probes. It returns nil for a
// source without a tower. A result that lost its tower, or tensors of it, is an
// error that matches runtime.ErrIncomplete or runtime.ErrUnsupported.
func CompareTowers(ctx context.Context, source, result VisionModel) (*Tower, error) {
	cfg := source.Model.Config()
	if cfg.Vision == nil {
		return nil, nil
	}
	p, err := vision.Load(source.Dir, cfg)
	if err != nil {
		return nil, err
	}
	t := &Tower{Exact: true}
	if result.Model.Config().Vision != nil {
		q, err := vision.Load(result.Dir, result.Model.Config())
		if err != nil {
			return nil, err
		}
		if *p != *q {
			t.Settings = fmt.Sprintf("source %+v, result %+v", *p, *q)
		}
	}
	in, err := p.Probes(cfg, make([][]int, probePrompts))
	if err != nil {
		return nil, err
	}
	for i, x := range in {
		a, err := source.Model.Media(ctx, x)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		b, err := result.Model.Media(ctx, x)
		if err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
		t.Prompts++
		t.Rows += len(x.Slots)
		if slices.EqualFunc(a.Rows, b.Rows, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) }) {
			continue
		}
		t.Exact = false
		if d := min(vision.Relative(a.Rows, b.Rows), math.MaxFloat64); d > t.Relative || t.Relative == 0 {
			t.Relative, t.Worst = d, i
		}
	}
	return t, nil
}

// Failed returns the predicates that do not hold; nil receivers hold.
func (t *Tower) Failed() (out []Failed) {
	if t == nil {
		return nil
	}
	if !t.Exact {
		out = append(out, Failed{Check: "vision", Where: "model.visual", Detail: fmt.Sprintf(
			"the tower's embeddings differ, by %.2g of their norm on built-in picture %d: the vision tower must stay as it is", t.Relative, t.Worst)})
	}
	if t.Settings != "" {
		out = append(out, Failed{Check: "vision", Where: "preprocessor_config.json", Detail: "pictures are prepared in another way: " + t.Settings})
	}
	return out
}
