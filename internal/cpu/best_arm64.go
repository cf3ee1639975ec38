//go:build !purego

package cpu

func best(string) Level { return NEON }
