package main

import "golang.org/x/sys/cpu"

// hasAMX reports whether peers may use the processor's matrix tiles.
func hasAMX() bool { return cpu.X86.HasAMXTile && cpu.X86.HasAMXInt8 }
