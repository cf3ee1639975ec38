package verify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/share"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/corpus"
)

// Options say what Compare reads and how. The zero value is the default.
type Options struct {
	Tol       float64  // ceiling of the mean KL in nats per token; 0: 1e-2, with 4-bit weights 5e-2
	Tokens    int      // how many to read; 0: 2048
	SeqLen    int      // tokens of a sequence; 0: 128. TokenIDs keep their own lengths
	TokenIDs  [][]int  // sequences to read
	Text      []string // or documents to read; without either the built-in corpus
	MaxMemory int64    // bytes; 0: 1 GiB. The less, the more often weights are read
	Workers   int      // threads; 0: one a core. Changes no figure
	// State is a folder where a comparison notes where it is, so that it goes on
	// from there when it was killed; "" for none.
	State string
	// Warn is told what changes no figure: that the state cannot be kept. Nil: nobody.
	Warn func(text string)
	// FS is what the state is written through; nil: the operating system's files.
	FS safetensors.FS
	// Reference says what a quantized source is taken for: ReferenceSource or
	// ReferenceWeights; "": ReferenceSource, and ReferenceWeights for a result
	// whose weights are not quantized.
	Reference string
	// AllTokens reads every token even where those of the first batches decide
	// (Stopped). How many sequences a batch has depends on MaxMemory.
	AllTokens bool
	// SkipForward leaves out everything that needs a forward pass.
	SkipForward bool
	// Progress receives how much is done, how much there is to do, and the
	// stage: bytes in stage "weights", tokens through a layer in stage "layers".
	// It may be nil; it is called from several goroutines, one at a time.
	Progress func(done, total int64, detail string)

	part       part  // what of the comparison is done
	done, todo int64 // rows through a layer
	saveAlways bool  // for tests: after every layer
}

// Error says why two directories cannot be compared.
type Error struct {
	Where, Reason, Advice string
}

func (e *Error) Error() string { return e.Where + ": " + e.Reason }

// Hint is what the user can do, or "".
func (e *Error) Hint() string { return e.Advice }

// skip is how many positions at the start of a sequence no statistic counts:
// without context they say little (docs/facts/verification.md 1.6).
const skip = 4

func (o *Options) setDefaults() {
	if o.Tokens <= 0 {
		o.Tokens = 2048
	}
	if o.SeqLen <= 0 {
		o.SeqLen = 128
	}
	o.SeqLen = max(o.SeqLen, skip+2)
	if o.MaxMemory <= 0 {
		o.MaxMemory = 1 << 30
	}
}

// tile is how many bytes of a weight are read together. A tile is decoded to
// float32 and multiplied with all tokens, so that several times its size is in
// use.
func (o *Options) tile() int64 { return min(max(o.MaxMemory/64, 64<<10), 16<<20) }

// A quarter of the memory goes to the states between layers, a quarter to what
// one block of rows needs inside a layer.

// block is how many rows go through attention and a dense MLP of one model
// together; both models run at the same time.
func (o *Options) block(c *glm.Config) int {
	inside := 3*c.Heads*max(c.HeadDim, c.QKNopeHeadDim+c.QKRopeHeadDim+c.VHeadDim) + 2*c.IntermediateSize + 6*c.HiddenSize
	return int(max(1, o.MaxMemory/8/int64(4*inside)))
}

// batch returns the first sequences, at least one, that go through all layers
// together. A row of both models, and a quarter of one for the probes of each,
// takes the stream, a normed copy, its quantised form and what is added to it;
// drafts have two streams at their input. Its figures take some KiB while the
// heads are read.
func (o *Options) batch(seqs [][]int, c *glm.Config) [][]int {
	rows := o.MaxMemory / 4 / int64(max(4*c.HiddenSize*10, 4*c.HiddenSize*4+9<<10))
	n := 1
	for left := rows - int64(len(seqs[0])); n < len(seqs) && left >= int64(len(seqs[n])); n++ {
		left -= int64(len(seqs[n]))
	}
	return seqs[:n]
}

func (o *Options) layersToDo(seqs [][]int, layers int) { o.todo += rows(seqs, layers) }
func (o *Options) layersDone(seqs [][]int, layers int) { o.done += rows(seqs, layers) }

func rows(seqs [][]int, layers int) (n int64) {
	for _, s := range seqs {
		n += int64(len(s) * layers)
	}
	return n
}

func (o *Options) layerDone(rows int) {
	if o.done += int64(rows); o.Progress != nil {
		o.Progress(o.done, o.todo, "layers")
	}
}

// Sequences returns the token ids that Compare would read of a checkpoint whose
// config has a vocabulary of vocab entries, the name of their origin, and the size
// of the real vocabulary (the config's where there is no tokenizer).
func Sequences(ctx context.Context, dir string, vocab int, o Options) (seqs [][]int, origin string, real int, err error) {
	o.setDefaults()
	return o.sequences(ctx, dir, vocab)
}

// sequences returns the token ids to read, the name of their origin, and the
// size of the real vocabulary (the config's where there is no tokenizer).
func (o *Options) sequences(ctx context.Context, dir string, vocab int) (seqs [][]int, origin string, real int, err error) {
	tok, err := tokenizer.Load(dir)
	// Ids of the built-in corpus are a convenience: where they cannot be made,
	// random ones serve. Text that the user gave needs its tokenizer.
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, tokenizer.ErrUnsupported) && len(o.Text) == 0
	if err != nil && !missing && len(o.TokenIDs) == 0 {
		return nil, "", 0, err
	}
	real = vocab
	if err == nil {
		real = min(vocab, max(tok.VocabSize(), 1))
	}
	switch {
	case len(o.TokenIDs) > 0:
		left := o.Tokens
		for i, s := range o.TokenIDs {
			for j, id := range s {
				if id < 0 || id >= vocab {
					return nil, "", 0, &Error{fmt.Sprintf("sequence %d, token %d", i, j), fmt.Sprintf("id %d, the vocabulary has %d", id, vocab), ""}
				}
			}
			if s = s[:min(len(s), left)]; len(s) > 0 {
				seqs = append(seqs, s)
			}
			left -= len(s)
		}
		return seqs, "token ids", real, nil
	case missing && len(o.Text) > 0:
		return nil, "", 0, &Error{dir, "has no tokenizer.json: text cannot be turned into tokens", "copy tokenizer.json from the model's release, or give token ids instead"}
	case missing:
		return o.random(real), randomIDs, real, nil
	}
	docs, origin := o.Text, "text"
	if len(docs) == 0 {
		docs, origin = corpus.Documents(), corpus.Name
	}
	var ids []int
	for _, d := range docs {
		more, err := tok.EncodeContext(ctx, d)
		if err != nil {
			return nil, "", 0, err
		}
		for _, id := range more {
			if id < 0 || id >= vocab {
				return nil, "", 0, &Error{dir, fmt.Sprintf("tokenizer.json has token %d, config.json a vocabulary of %d", id, vocab), "tokenizer.json belongs to another model"}
			}
			ids = append(ids, id)
		}
	}
	return share.Pieces(ids, o.Tokens, o.SeqLen), origin, real, nil
}

// randomIDs is the name of ids that no text is behind.
const randomIDs = "pseudo-random ids"

// random makes the ids for a checkpoint without a tokenizer.
func (o *Options) random(vocab int) (seqs [][]int) {
	rng := rand.New(rand.NewPCG(0x766572, 0x696679))
	for range max(1, o.Tokens/o.SeqLen) {
		s := make([]int, o.SeqLen)
		for i := range s {
			s[i] = rng.IntN(vocab)
		}
		seqs = append(seqs, s)
	}
	return seqs
}

// fingerprint is the SHA-256 of the ids, each as 4 bytes, -1 after a sequence.
func fingerprint(seqs [][]int) string {
	h := sha256.New()
	for _, s := range seqs {
		for _, id := range append(append([]int(nil), s...), -1) {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], uint32(id))
			h.Write(b[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
