package runtime

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// rotationName is the tensor that rotated Ascend checkpoints (QuaRot) hold for
// the MTP layer: Qᵀ·diag(g)·Q, with g the gains of the model's final norm,
// which the rotation has fused into the head (docs/facts/ascend.md 5.4).
const rotationName = "rot.weight"

// rotation returns the table row that such a checkpoint would have for it.
func rotation(cfg *glm.Config) *glm.Tensor {
	h := int64(cfg.HiddenSize)
	return &glm.Tensor{Name: rotationName, Module: "rot", Param: "weight", DType: safetensors.BF16, Shape: []int64{h, h}, Layer: -1, Expert: -1}
}

// addRotation makes rot.weight known to the loader, if the checkpoint has one.
func (l *loader) addRotation() error {
	i := slices.IndexFunc(l.src.Tensors(), func(t safetensors.Info) bool { return t.Name == rotationName })
	if i < 0 {
		return nil
	}
	info, row := l.src.Tensors()[i], rotation(l.cfg)
	if !slices.Equal(info.Shape, row.Shape) || !isFloat(info.DType) {
		return &Error{Where: rotationName, Reason: fmt.Sprintf("is %s %v; the draft's input needs a floating-point %v", info.DType, info.Shape, row.Shape), Kind: ErrIncomplete}
	}
	l.entries[row.Name] = &glm.Entry{Tensor: row, Source: info, Size: info.Size}
	return nil
}
