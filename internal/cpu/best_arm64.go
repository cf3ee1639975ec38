//go:build !purego

package cpu

func best() Level { return NEON }
