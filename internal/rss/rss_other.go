//go:build !unix

package rss

import "os"

func pidName(int) string           { return "" }
func highWater(string) int64       { return 0 }
func usage(*os.ProcessState) int64 { return 0 }
