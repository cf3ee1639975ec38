package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach/s3"
)

// upload is a file that is being written. Bytes may come in any order, each once;
// a part goes on its way when it is full.
type upload struct {
	b    *Bucket
	name string // temporary
	key  string // final
	size int64  // announced; -1: as much as comes
	part int64

	mu    sync.Mutex
	open  map[int64]*piece
	at    int64 // where Write goes on
	end   int64 // behind the last byte so far
	id    string
	parts []s3.Part
	sums  map[int64]sum // of parts that are there
	err   error
	wg    sync.WaitGroup
}

// piece is a part that is not full yet.
type piece struct {
	data []byte
	have int64
}

// sum identifies the bytes of a part.
type sum struct {
	sha256 [32]byte
	size   int64
}

// Create begins a file under a temporary name.
func (b *Bucket) Create(p string) (fsx.File, error) {
	if !fsx.IsTemp(p) {
		return nil, &fs.PathError{Op: "create", Path: p, Err: errors.ErrUnsupported}
	}
	dir, base := filepath.Split(p)
	key, err := b.key(dir + finalName(base))
	if err != nil {
		return nil, err
	}
	u := &upload{b: b, name: p, key: key, size: -1, part: b.o.part, open: map[int64]*piece{}, sums: map[int64]sum{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[p] != nil {
		return nil, &fs.PathError{Op: "create", Path: p, Err: fs.ErrExist}
	}
	b.pending[p] = u
	return u, nil
}

// finalName undoes [fsx.TempName].
func finalName(temp string) string {
	short := fsx.TempName("x") // .x, then what follows the name
	return strings.TrimSuffix(strings.TrimPrefix(temp, "."), strings.TrimPrefix(short, ".x"))
}

func (u *upload) Name() string           { return u.name }
func (u *upload) WriteBack(int64, int64) {}
func (u *upload) Close() error           { return nil }

// Preallocate begins a multipart upload for a file of a known size.
func (u *upload) Preallocate(size int64) error {
	if size <= 0 {
		return nil
	}
	u.size, u.part = size, partOf(size, u.b.o.part)
	return u.begin()
}

// begin asks for an upload if there is none.
func (u *upload) begin() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.id != "" || u.err != nil {
		return u.err
	}
	u.id, u.err = u.b.newUpload(u.key)
	return u.err
}

// Write appends.
func (u *upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	at := u.at
	u.at += int64(len(p))
	u.mu.Unlock()
	return u.WriteAt(p, at)
}

// WriteAt takes bytes of any place.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		n, err := u.put(p[done:], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// put copies as much as one part takes and sends the part if that fills it.
func (u *upload) put(p []byte, off int64) (int, error) {
	i := off / u.part
	size := u.part
	if u.size >= 0 {
		size = min(size, u.size-i*u.part)
	}
	n := min(int64(len(p)), (i*u.part+size)-off)
	if n <= 0 {
		return 0, &fs.PathError{Op: "write", Path: u.name, Err: errors.New("more bytes than were announced")}
	}
	u.mu.Lock()
	if u.err != nil {
		defer u.mu.Unlock()
		return 0, u.err
	}
	x := u.open[i]
	if x == nil {
		x = &piece{data: u.b.buffer(size)}
		u.open[i] = x
	}
	u.mu.Unlock()
	copy(x.data[off-i*u.part:], p[:n])
	u.mu.Lock()
	x.have += n
	u.end = max(u.end, off+n)
	full := x.have == size
	if full {
		delete(u.open, i)
	}
	u.mu.Unlock()
	if !full {
		return int(n), nil
	}
	return int(n), u.send(i, x.data)
}

// send gives a part on its way as soon as there is a slot.
func (u *upload) send(i int64, data []byte) error {
	if err := u.begin(); err != nil {
		return err
	}
	select {
	case u.b.slots <- struct{}{}:
	case <-u.b.ctx.Done():
		return u.fail(u.b.ctx.Err())
	}
	u.wg.Add(1)
	go func() {
		defer u.wg.Done()
		part, s, err := u.b.sendPart(u.key, u.id, int(i)+1, data)
		<-u.b.slots
		u.b.release(data)
		u.mu.Lock()
		defer u.mu.Unlock()
		if err != nil && u.err == nil {
			u.err = err
		}
		u.parts, u.sums[i] = append(u.parts, part), s
	}()
	return nil
}

func (u *upload) fail(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
	return u.err
}

// Sync sends what is left and waits until all parts are there.
func (u *upload) Sync() error {
	u.mu.Lock()
	rest := u.open
	multi := u.id != ""
	if u.err == nil && u.size < 0 && (multi || u.end > u.part) {
		u.open = map[int64]*piece{}
	} else {
		rest = nil // one request at Rename, or a file with holes: complete says so
	}
	u.mu.Unlock()
	for i, x := range rest {
		if x.have != min(u.part, u.end-i*u.part) {
			return u.fail(&fs.PathError{Op: "sync", Path: u.name, Err: errors.New("bytes are missing")})
		}
		if err := u.send(i, x.data[:x.have]); err != nil {
			return err
		}
	}
	u.wg.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// Rename gives a file its name: the moment from which it is there.
func (b *Bucket) Rename(old, name string) error {
	b.mu.Lock()
	u := b.pending[old]
	b.mu.Unlock()
	if u == nil {
		return &fs.PathError{Op: "rename", Path: old, Err: fs.ErrNotExist}
	}
	key, err := b.key(name)
	if err != nil {
		return err
	}
	if key != u.key {
		return &fs.PathError{Op: "rename", Path: name, Err: errors.ErrUnsupported}
	}
	if err := u.Sync(); err != nil {
		return err
	}
	if u.id == "" {
		err = u.putWhole()
	} else {
		err = u.complete()
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.pending, old)
	delete(b.own, u.id)
	b.mu.Unlock()
	return nil
}

// putWhole writes a file of one part.
func (u *upload) putWhole() error {
	var data []byte
	if x := u.open[0]; x != nil {
		if x.have != u.end {
			return &fs.PathError{Op: "rename", Path: u.name, Err: errors.New("bytes are missing")}
		}
		data = x.data[:x.have]
	}
	once := slices.Contains(u.b.o.Once, strings.TrimPrefix(u.key, u.b.root))
	if err := u.b.put(u.key, data, once); err != nil {
		return err
	}
	if x := u.open[0]; x != nil {
		u.b.release(x.data)
	}
	u.open = nil
	return nil
}

// complete makes an object of the parts.
func (u *upload) complete() error {
	total := int64(0)
	for _, s := range u.sums {
		total += s.size
	}
	if len(u.open) > 0 || total != u.end || u.size >= 0 && total != u.size {
		return &fs.PathError{Op: "rename", Path: u.name, Err: fmt.Errorf("%d bytes are missing", max(u.size, u.end)-total)}
	}
	slices.SortFunc(u.parts, func(a, b s3.Part) int { return a.Number - b.Number })
	return u.b.complete(u, total)
}

// removeTemp drops a file that is being written, or uploads of other processes.
func (b *Bucket) removeTemp(p string) error {
	b.mu.Lock()
	u := b.pending[p]
	delete(b.pending, p)
	b.mu.Unlock()
	if u == nil {
		return b.removeUploads(p)
	}
	u.wg.Wait()
	for _, x := range u.open {
		b.release(x.data)
	}
	if u.id == "" {
		return nil
	}
	return b.abandon(u)
}

// buffer returns memory for a part.
func (b *Bucket) buffer(n int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, f := range b.free {
		if int64(cap(f)) >= n {
			b.free = slices.Delete(b.free, i, i+1)
			return f[:n]
		}
	}
	return make([]byte, n)
}

// release keeps the memory of a part for another.
func (b *Bucket) release(data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int64(cap(data)) >= b.o.part && len(b.free) < cap(b.slots) {
		b.free = append(b.free, data)
	}
}
