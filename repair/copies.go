package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/safetensors"
)

// copies compares the MTP layer's copies of embedding and head with the model's
// own and renews those that differ. One that a script wrote beside the folder
// is made anew.
func (d *decider) copies(ctx context.Context) error {
	rotated := mtp.Rotated(d.cfg, d.ckpt, d.text)
	var e *mtp.Error
	if rotated != nil && !errors.As(rotated, &e) {
		return rotated
	}
	beside := slices.ContainsFunc(d.found, func(f origin.Finding) bool { return f.Kind == origin.BesideFolder })
	own := d.ownOf()
	for _, name := range slices.Sorted(maps.Keys(own)) {
		from, ok := d.ckpt.Info(own[name])
		if !ok || !isFloat(from.DType) {
			continue
		}
		turned := rotated != nil && own[name] == d.cfg.HeadName() // with the gains of the wrong norm
		have, stored := d.ckpt.Info(name)
		switch {
		case !stored && beside && d.ckpt.Lost(name) != "":
			if rotated != nil {
				d.stays("%s: %s; move the file that lies beside the folder into it", name, e.Reason)
				continue
			}
			d.extra = append(d.extra, source{info: from, as: name})
			d.step("tensor", name, "made anew from %s: the index names it in a file that lies beside the folder", own[name])
		case !stored:
			d.absentCopy(name, from, e)
		case !isFloat(have.DType) || len(have.Shape) != 2 || len(from.Shape) != 2 || have.Shape[1] != from.Shape[1]:
		case from.Shape[1] != int64(d.cfg.HiddenSize): // another model's: no copy is judged
		case have.Shape[0] != from.Shape[0]:
			if turned {
				d.stays("%s: of another vocabulary; %s", name, e.Reason)
				continue
			}
			d.renew(have, from, "it was of another vocabulary")
		case have.DType == from.DType && !turned:
			if err := d.compareCopy(ctx, have, from, rotated != nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// absentCopy puts back a copy that a complete MTP layer lacks where engines cannot
// do without (Ascend folders of latent attention, docs/facts/engine-vllm-ascend.md
// 5), and says what does where only one of them wants it. turned says why it
// cannot be a copy of the model's own; nil: it can.
func (d *decider) absentCopy(name string, from safetensors.Info, turned *mtp.Error) {
	if _, ok := d.adopted[name]; ok || d.options.Copies || !d.cfg.LatentAttention() || !d.wholeMTP() || slices.ContainsFunc(d.extra, func(s source) bool { return s.as == name }) {
		return
	}
	switch {
	case turned != nil:
		d.stays("%s: it is not stored, and %s", name, turned.Reason)
	case d.text != nil:
		d.extra = append(d.extra, source{info: from, as: name})
		d.step("tensor", name, "copied from %s: vllm-ascend needs it", from.Name)
	case d.cfg.QuantizationConfig == nil || d.stale():
		d.Notes = append(d.Notes, fmt.Sprintf("%s: it is not stored, as in the release; vLLM and SGLang take the model's own, for vllm-ascend glmconv mtp-remap adds it", name))
	}
}

// wholeMTP reports whether an MTP layer is stored that lacks nothing but copies.
func (d *decider) wholeMTP() bool {
	m := glm.Survey(d.cfg, d.ckpt.Tensors()).MTP
	return m != nil && m.File != "" && m.MissingCount == 0
}

func (d *decider) renew(have, from safetensors.Info, why string) {
	d.set(have.File, have.Name, &source{info: from, as: have.Name})
	d.step("tensor", have.Name, "renewed from %s: %s", from.Name, why)
}

// compareCopy renews a copy of which a row differs, unless the model's own row
// is the one that was lost.
func (d *decider) compareCopy(ctx context.Context, have, from safetensors.Info, rotated bool) error {
	if have.Size == 0 || have.Shape[0] == 0 {
		return nil
	}
	row := have.Size / have.Shape[0]
	step := max(chunk/row, 1) * row
	a, b := make([]byte, step), make([]byte, step)
	rows, lost := int64(0), int64(0)
	for off := int64(0); off < have.Size; off += step {
		n := min(step, have.Size-off)
		if err := errors.Join(ctx.Err(), d.ckpt.ReadAt(have, off, a[:n]), d.ckpt.ReadAt(from, off, b[:n])); err != nil {
			return err
		}
		if bytes.Equal(a[:n], b[:n]) {
			continue
		}
		for at := int64(0); at < n; at += row {
			x, y := a[at:at+row], b[at:at+row]
			if bytes.Equal(x, y) {
				continue
			}
			rows++
			if zeroRow(y) {
				lost++
			}
		}
	}
	switch {
	case lost > 0:
		d.stays("%s: %d of its rows are zero and %s has them: fetch the file again (%s); the copy is left as it is", from.Name, lost, have.Name, from.File)
	case rotated && rows > have.Shape[0]/2:
		d.stays("%s: it is not %s, and the folder is rotated: the MTP layer is perhaps that of the unrotated model", have.Name, from.Name)
	case rows == 1:
		d.renew(have, from, "1 of its rows differed")
	case rows > 0:
		d.step("tensor", have.Name, "renewed from %s: %d of its %d rows differed", from.Name, rows, have.Shape[0])
		d.set(have.File, have.Name, &source{info: from, as: have.Name})
	}
	return nil
}
