//go:build !purego

package cpu

import "syscall"

// permitTiles asks the kernel for the state of the tiles, 8 KiB that a thread
// has from its first use of them on: arch_prctl(ARCH_REQ_XCOMP_PERM,
// XFEATURE_XTILEDATA). The permission holds for all threads of the process. A
// kernel that does not know AMX, or did not enable it, says no.
func permitTiles() bool {
	const reqXcompPerm, xtileData = 0x1023, 18
	_, _, err := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, reqXcompPerm, xtileData, 0)
	return err == 0
}
