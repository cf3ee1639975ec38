package media

import "errors"

// errStop ends a walk over frames early.
var errStop = errors.New("stop")

// animation is a decoded container of frames.
type animation interface {
	count() int
	fps() float64 // 0 when unknown
	each(fn func(i int, im *Image) error) error
}

// openAnimation returns nil, nil for a still picture.
func openAnimation(_ []byte, _ Limits) (animation, error) { return nil, nil }
