//go:build !unix

package convert

func freeSpace(string) int64 { return -1 }
