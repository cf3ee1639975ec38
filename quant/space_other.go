//go:build !unix

package quant

func freeSpace(string) int64 { return -1 }
