//go:build !purego

package numeric

import "github.com/glmconv/glmconv/internal/cpu"

// use has the kernels of a level run.
func use(l cpu.Level) { vector, wide = l >= cpu.AVX2, l >= cpu.AVX512 }
