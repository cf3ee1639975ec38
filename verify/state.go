package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime"
)

// saveEvery is how often a long pass notes where it is.
const saveEvery = 30 * time.Second

// point is where a comparison stands: between two layers of one batch.
type point struct {
	Evidence  *evidence  // of the comparison without a forward pass
	First     int        // sequences that are done
	Layer     int        // layers of the batch after them that are done
	Sequences []sequence // those that are done and those of the batch
	// Keys that layers without an indexer read, of the source's spans and of the
	// result's.
	KeysA, KeysB [][][]int32
	Read         int64 // bytes, by the forward passes
	Inputs       dict[reach]
	X, Y         int // floats that follow: the source's stream, the result's
}

// stateFile keeps a point on disk, so that a killed comparison goes on from
// there. A nil one keeps nothing.
type stateFile struct {
	path string
	key  string // of what is compared and how
	fs   fsx.FS
	warn func(error) // told once that the state cannot be kept
	last time.Time
	gap  time.Duration
}

// openState names the state of a comparison: a file in o.State after the two
// directories' files, the options that change a figure, and the tool.
func openState(f *folders, src, dst string, seqs [][]int, o *Options) (*stateFile, error) {
	if o.State == "" {
		return nil, nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "glmconv verify state 7\n%d %g %q %s %d/%d\n", o.MaxMemory, o.Tol, o.Reference, fingerprint(seqs), o.part.Index, o.part.Count)
	for _, dir := range []string{src, dst} {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		c, err := f.whole(dir)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(h, "%q\n", abs)
		for _, f := range c.Files() {
			st, err := fsx.Stat(filepath.Join(dir, f.Name))
			if err != nil {
				_ = c.Close()
				return nil, err
			}
			fmt.Fprintf(h, "%q %d %d\n", f.Name, f.Size, st.ModTime().UnixNano())
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
		for _, name := range []string{"config.json", "quant_model_description.json", "glmconv-manifest.json"} {
			raw, err := fsx.ReadIn(dir, name, fsx.MaxText)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			fmt.Fprintf(h, "%q %d\n%s\n", name, len(raw), raw)
		}
	}
	key := hex.EncodeToString(h.Sum(nil))
	s := &stateFile{path: filepath.Join(o.State, "verify-"+key[:16]+".state"), key: key, fs: fsx.Or(o.FS), last: time.Now(), gap: saveEvery}
	if o.saveAlways {
		s.gap = 0
	}
	s.warn = func(err error) {
		if o.Warn != nil {
			o.Warn(fmt.Sprintf("where this run is cannot be kept; if it is killed, it begins anew: %v", err))
		}
	}
	if err := s.fs.MkdirAll(o.State); err != nil {
		s.warn(err)
		return nil, nil
	}
	return s, nil
}

// due reports whether it is time to save.
func (s *stateFile) due() bool { return s != nil && time.Since(s.last) >= s.gap }

// keep saves a point. No comparison ends because that fails, and of two
// processes with the same comparison the one that comes first saves.
func (s *stateFile) keep(p *point, x, y []float32) {
	s.last = time.Now()
	unlock, err := fsx.Lock(s.path + ".lock")
	if errors.Is(err, fsx.ErrLocked) {
		return
	}
	if err == nil {
		err = errors.Join(s.save(p, x, y), unlock())
	}
	if err != nil && s.warn != nil {
		s.warn(err)
		s.warn = nil
	}
}

// save writes a point with the two streams and a checksum of all that, all or
// nothing.
func (s *stateFile) save(p *point, x, y []float32) (err error) {
	p.X, p.Y = len(x), len(y)
	f, err := fsx.CreateTemp(s.fs, s.path)
	if err != nil {
		return err
	}
	sum := crc64.New(stateSums)
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	err = gob.NewEncoder(w).Encode(s.key)
	if err == nil {
		err = gob.NewEncoder(w).Encode(p)
	}
	var raw [4]byte
	for _, part := range [][]float32{x, y} {
		for _, v := range part {
			binary.LittleEndian.PutUint32(raw[:], math.Float32bits(v))
			if err == nil {
				_, err = w.Write(raw[:])
			}
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = f.Write(sum.Sum(nil))
	}
	if err != nil {
		return errors.Join(err, fsx.Discard(s.fs, f))
	}
	return fsx.Commit(s.fs, f, s.path)
}

// stateSums is the polynomial of a state's checksum.
var stateSums = crc64.MakeTable(crc64.ECMA)

// resumed is a point with its streams.
type resumed struct {
	point
	x, y []float32
}

// resume opens the state of a comparison and returns the point to go on from,
// nil for the beginning. Going on is a convenience: where it cannot be had, the
// comparison simply begins.
func (o *Options) resume(ctx context.Context, f *folders, src, dst string) (*stateFile, *resumed) {
	if o.State == "" || o.SkipForward {
		return nil, nil
	}
	cfg, err := glm.LoadConfig(src)
	if err != nil {
		return nil, nil
	}
	seqs, _, _, err := o.sequences(ctx, src, cfg.VocabSize)
	if err != nil {
		return nil, nil
	}
	state, err := openState(f, src, dst, seqs, o)
	if err != nil {
		return nil, nil
	}
	p, x, y := state.load()
	if p == nil || p.Evidence == nil || p.Evidence.Check == nil {
		return state, nil
	}
	p.Evidence.Source, p.Evidence.Result = src, dst // as they are named now
	return state, &resumed{*p, x, y}
}

// load returns the point that was saved for this very comparison, or nil.
func (s *stateFile) load() (p *point, x, y []float32) {
	if s == nil {
		return nil, nil, nil
	}
	f, err := fsx.OpenRegular(s.path)
	if err != nil {
		return nil, nil, nil
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, nil
	}
	return readPoint(f, st.Size(), s.key)
}

// readPoint reads what save wrote; nil where it is of another comparison or
// version, or damaged: then it begins anew.
func readPoint(f io.Reader, size int64, key string) (p *point, x, y []float32) {
	sum := crc64.New(stateSums)
	size -= int64(sum.Size())
	if size < 0 {
		return nil, nil, nil
	}
	r := bufio.NewReaderSize(io.TeeReader(io.LimitReader(f, size), sum), 1<<20)
	var of string
	p = &point{}
	if gob.NewDecoder(r).Decode(&of) != nil || of != key || gob.NewDecoder(r).Decode(p) != nil {
		return nil, nil, nil
	}
	if p.X < 0 || p.Y < 0 || int64(p.X) > size/4 || int64(p.Y) > size/4-int64(p.X) {
		return nil, nil, nil
	}
	x, y = make([]float32, p.X), make([]float32, p.Y)
	var raw [4]byte
	for _, part := range [][]float32{x, y} {
		for i := range part {
			if _, err := io.ReadFull(r, raw[:]); err != nil {
				return nil, nil, nil
			}
			part[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[:]))
		}
	}
	if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
		return nil, nil, nil
	}
	want := make([]byte, sum.Size())
	if _, err := io.ReadFull(f, want); err != nil || !bytes.Equal(want, sum.Sum(nil)) {
		return nil, nil, nil
	}
	return p, x, y
}

// remove forgets the point of a comparison that has ended.
func (s *stateFile) remove() {
	if s != nil {
		_ = os.Remove(s.path) // nothing depends on it
	}
}

// keysOf are the keys that spans hold, and putKeys gives them back.
func keysOf(spans []runtime.Span) [][][]int32 {
	out := make([][][]int32, len(spans))
	for i := range spans {
		out[i] = spans[i].Keys
	}
	return out
}

func putKeys(spans []runtime.Span, keys [][][]int32) {
	for i := range keys {
		if i < len(spans) {
			spans[i].Keys = keys[i]
		}
	}
}
