//go:build !amd64 || purego

package limits

func loops() []loop          { return nil }
func read(p []byte) uint64   { return readGo(p) }
func stream(dst, src []byte) { streamGo(dst, src) }
