package reach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/source"
)

// doubleFaced gives other bytes to those who read a header by itself.
type doubleFaced struct {
	data  []byte
	other int64 // the byte that is another there; -1: none
}

func (g *doubleFaced) get(_ context.Context, _ *file, off, n int64) (io.ReadCloser, error) {
	out := bytes.Clone(g.data[off : off+n])
	if n < blockSize && off <= g.other && g.other < off+n && off <= headSize {
		out[g.other-off] ^= 1
	}
	return io.NopCloser(bytes.NewReader(out)), nil
}

// TestHeaderOfTheBlocks: a header that is read by itself has to be the beginning of
// the shard that has the published hash, however it is read and wherever it differs;
// what differs stays in no cache.
func TestHeaderOfTheBlocks(t *testing.T) {
	data := make([]byte, 2*blockSize+100)
	for i := range data {
		data[i] = byte(i * 7)
	}
	sum := sha256.Sum256(data)
	for _, test := range []struct {
		name   string
		header int // bytes
		other  int64
		full   bool // read for its hash alone
	}{
		{"the same", 100, -1, false},
		{"the same, long", headSize + 5000, -1, false},
		{"its length", 100, 3, false},
		{"its first bytes", 100, 50, false},
		{"the rest of a long one", headSize + 5000, headSize + 4000, false},
		{"one of several blocks", blockSize + 5000, blockSize + 4000, true},
		{"found by hashing", headSize + 5000, headSize + 4000, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := quick()
			o.Cache = t.TempDir()
			require.NoError(t, o.defaults())
			c, err := newClient(o)
			require.NoError(t, err)
			f := &file{Entry: source.Entry{Name: "model.safetensors", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}, located: &located{}}
			s, err := newSource(t.Context(), c, &doubleFaced{data, test.other}, "hf://org/x", []*file{f})
			require.NoError(t, err)
			defer func() { _ = s.Close() }()
			in, err := s.Open(t.Context(), f.Name)
			require.NoError(t, err)
			for _, r := range []struct{ off, n int }{{0, 8}, {8, test.header - 8}} {
				_, err = in.ReadAt(t.Context(), make([]byte, r.n), int64(r.off))
				require.NoError(t, err)
			}
			kept := func() int {
				list, err := os.ReadDir(filepath.Join(o.Cache, "sources"))
				require.NoError(t, err)
				return len(list)
			}
			require.Positive(t, kept())
			if test.full {
				err = s.hashRest(t.Context(), f)
			} else {
				_, err = io.Copy(io.Discard, io.NewSectionReader(readerAt{in, t.Context()}, int64(test.header), f.Size-int64(test.header)))
			}
			if test.other < 0 {
				require.NoError(t, err)
				assert.NoError(t, s.Settle(t.Context()))
				assert.Equal(t, "sha256", s.Checked(f.Name))
				assert.Positive(t, kept())
				return
			}
			require.ErrorIs(t, err, source.ErrRefused)
			assert.ErrorContains(t, err, "two beginnings")
			assert.Zero(t, kept())
		})
	}
}

type readerAt struct {
	in  source.File
	ctx context.Context //nolint:containedctx // of a test
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.in.ReadAt(r.ctx, p, off) }
