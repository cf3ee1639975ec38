//go:build !unix

package main

import "errors"

func processor(func() error) (float64, error) {
	return 0, errors.New("processor time is not measured on this system")
}
