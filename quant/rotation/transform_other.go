//go:build !amd64 || purego

package rotation

// Elsewhere transforms are plain loops.

func walshVector([]float32) bool { return false }

func butterflyVector(_ int, _, _ []float32, _, _, _ int) int { return 0 }

func (h *Hadamard) mixVector([]float32, int) int { return 0 }

func multiplyVector(_, _ []float32) int { return 0 }

func scaleVector([]float32, float32) int { return 0 }
