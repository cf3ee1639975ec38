package fsx

import "math/rand/v2"

// faultyFile is a file of a Faulty. With a power cut planned it stays open
// below after Close as long as it has unsynced data, so that Crash can reach
// the data by whatever name the file then has.
type faultyFile struct {
	f      *Faulty
	inner  File
	pos    int64 // where the next Write lands
	dirty  []extent
	closed bool
}

type extent struct{ off, n int64 }

func (f *Faulty) track(inner File, pos int64) *faultyFile {
	file := &faultyFile{f: f, inner: inner, pos: pos}
	if f.CutAt > 0 {
		f.files = append(f.files, file)
	}
	return file
}

func (file *faultyFile) Name() string { return file.inner.Name() }

func (file *faultyFile) Write(p []byte) (int, error) {
	return file.write(p, file.pos, func(p []byte) (int, error) {
		n, err := file.inner.Write(p)
		file.pos += int64(n)
		return n, err
	})
}

func (file *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	return file.write(p, off, func(p []byte) (int, error) { return file.inner.WriteAt(p, off) })
}

func (file *faultyFile) write(p []byte, off int64, do func([]byte) (int, error)) (int, error) {
	file.f.mu.Lock()
	defer file.f.mu.Unlock()
	fault := file.f.step("write", file.Name())
	if fault != nil {
		if !file.f.Short {
			return 0, fault
		}
		p = p[:len(p)/2]
	}
	n, err := do(p)
	if n > 0 && file.f.CutAt > 0 {
		file.dirty = append(file.dirty, extent{off, int64(n)})
	}
	if fault != nil {
		err = fault
	}
	return n, err
}

func (file *faultyFile) Preallocate(size int64) error {
	return file.f.do("preallocate", file.Name(), func() error { return file.inner.Preallocate(size) })
}

// WriteBack does nothing: what was not synced is lost.
func (file *faultyFile) WriteBack(int64, int64) {}

func (file *faultyFile) Sync() error {
	return file.f.do("sync", file.Name(), func() error {
		if err := file.inner.Sync(); err != nil {
			return err
		}
		file.dirty = nil
		return nil
	})
}

// Close releases the descriptor even when it is the operation that fails, as
// close(2) does.
func (file *faultyFile) Close() error {
	file.f.mu.Lock()
	defer file.f.mu.Unlock()
	fault := file.f.step("close", file.Name())
	if file.closed {
		return file.inner.Close()
	}
	file.closed = true
	if len(file.dirty) > 0 {
		return fault // Crash closes it
	}
	if err := file.inner.Close(); fault == nil {
		return err
	}
	return fault
}

// lose zeroes unsynced extents and closes the file.
func (file *faultyFile) lose(r *rand.Rand, p float64) error {
	if file.closed && len(file.dirty) == 0 {
		return nil
	}
	for _, e := range file.dirty {
		if r.Float64() >= p {
			continue
		}
		if _, err := file.inner.WriteAt(make([]byte, e.n), e.off); err != nil {
			_ = file.inner.Close()
			return err
		}
	}
	return file.inner.Close()
}
