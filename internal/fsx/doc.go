// Package fsx is the seam through which glmconv writes: every file of a result
// is created, filled, renamed and made durable by an [FS], so that a test can
// let the n-th operation fail or cut the power after it.
//
// # Order of writes
//
// A file gets its final name only when its bytes are on the disk:
//
//	create a temporary name in the target directory   (CreateTemp)
//	reserve the space                                 (File.Preallocate)
//	write                                             (File.Write)
//	make the data durable                             (File.Sync)
//	give it its name                                  (FS.Rename)
//	make the name durable                             (FS.SyncDir)
//
// [WriteFile] does all of it for small files; the shards' writer of package
// safetensors does it for large ones. A process killed at any point leaves
// temporary names only, which [IsTemp] recognises and a later run removes.
// After a failed Sync nothing is retried on the same file: the kernel may have
// dropped the pages it could not write, so the file is deleted and written anew.
//
//	err := fsx.WriteFile(fsx.OS, "out/config.json", data)
//
// # One writer
//
// [Lock] takes the right to write a directory, or returns [ErrLocked] at once.
// It rests on flock: the lock goes with the process, however it ends.
//
// # Faults
//
// [Faulty] wraps another FS and counts its operations. Run once without a
// fault to learn their number, then once for each n:
//
//	for n := 1; ; n++ {
//		fs := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.ENOSPC}
//		err := work(fs)
//		if !fs.Hit() {
//			break // the run had fewer than n operations
//		}
//		// err names the file, nothing stands under a final name
//	}
//
// With CutAt the power goes instead: from that operation on everything fails
// with [ErrPowerCut], and [Faulty.Crash] takes back what was not synced.
package fsx
