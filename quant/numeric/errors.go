package numeric

import (
	"errors"
	"fmt"
)

// ErrSpec is wrapped by errors about a Spec that asks for something the
// arithmetic does not define.
var ErrSpec = errors.New("bad quantisation spec")

// ErrShape is wrapped by errors about sizes: values that do not fill their
// matrix, columns that a group does not divide.
var ErrShape = errors.New("bad shape")

// NonFiniteError reports a NaN or infinity in a source weight. No scale can
// represent it, and letting it through would ruin its whole scale block.
type NonFiniteError struct {
	Row, Col int // within the rows given to Quantize
	Value    float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("weight [%d, %d] is %v", e.Row, e.Col, e.Value)
}
