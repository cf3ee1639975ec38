package runtime

import (
	"context"
	"fmt"
	goruntime "runtime"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// Options change how a model computes; the zero value is the default.
type Options struct {
	Threads int // goroutines; 0: one for each CPU that Go may use
	// ActDivisor is what the absmax of a token is divided by for int8
	// activations; 0: 127, as the engines do. compressed-tensors' own
	// arithmetic has 127.5.
	ActDivisor float32
	// Chunk is how many rows of a sequence Session.Forward computes together;
	// 0: 512. It changes memory and speed, no result.
	Chunk int
	// Block is how many rows' attention and dense MLP are computed together
	// (whole sequences, at least one; 0: all). The weights are read once for each
	// block. It changes memory and speed, no result.
	Block int
	// LatentEps is the eps of q_a_layernorm and kv_a_layernorm; 0: rms_norm_eps
	// of the config, as the engines do. transformers has 1e-6.
	LatentEps float64
	// ExpandKV makes latent attention expand keys and values from the cache,
	// as the reference computes it, instead of absorbing kv_b_proj into the
	// queries. It changes results by rounding alone, but by the chunks of a
	// long prompt too.
	ExpandKV bool
	// Observe, if given, sees the input of every projection before it is
	// computed: x returns it unquantised, [rows, columns of w], to be read only.
	// An error ends the pass. Calls come one at a time, from a pass of one
	// goroutine.
	Observe func(w *glm.Tensor, rows int, x func() []float32) error
	// ObserveCache, if given, sees keys and values [rows, KV heads × head
	// dimensions] of grouped-query attention as the cache of a layer gets them, to
	// be read only.
	ObserveCache func(layer int, keys, values []float32)
	// Path is how an NPU computes static W8A8.
	Path NPUPath
	// Caches are the layers whose latents are kept in int8; Load reads them from
	// the checkpoint where it is nil (ReadCaches).
	Caches Caches
}

// Model is a checkpoint ready to compute. It is safe for concurrent use, the
// sessions it makes are not.
type Model struct {
	cfg     *glm.Config
	p       Provider
	opt     Options
	refs    *modelRefs
	att     attention
	workers *kernel.Workers
	mtp     *MTP
	tower   *tower // glm4v_moe

	close func() error
}

// Load opens a checkpoint directory with its weights in memory (read when they
// are first needed). Errors are those of glm, safetensors and layout, or match
// ErrUnsupported or ErrIncomplete.
func Load(dir string, o Options) (*Model, error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	if o.Caches == nil {
		if o.Caches, err = ReadCaches(dir); err != nil {
			return nil, err
		}
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	p, err := NewResident(cfg, ckpt)
	if err == nil {
		var m *Model
		if m, err = New(cfg, p, o); err == nil {
			m.close = ckpt.Close
			return m, nil
		}
	}
	_ = ckpt.Close()
	return nil, err
}

// New makes a model of a config and a provider of its weights.
func New(cfg *glm.Config, p Provider, o Options) (*Model, error) {
	if o.Threads <= 0 {
		o.Threads = goruntime.GOMAXPROCS(0)
	}
	if o.ActDivisor == 0 {
		o.ActDivisor = kernel.EngineDivisor
	}
	if o.Chunk <= 0 {
		o.Chunk = 512
	}
	m := &Model{cfg: cfg, p: p, opt: o, refs: collectRefs(cfg), workers: &kernel.Workers{N: o.Threads}}
	if m.att = newGQA(cfg); cfg.LatentAttention() {
		m.att = newMLA(cfg, o)
	}
	var lost []glm.Tensor
	mtpLost, visionLost := 0, 0
	for _, t := range p.Missing() {
		switch {
		case t.Role.IsVision():
			visionLost++
		case t.MTP:
			mtpLost++
		default:
			lost = append(lost, t)
		}
	}
	if len(lost) > 0 {
		return nil, &Error{Where: lost[0].Name, Reason: fmt.Sprintf("is missing, and %d more tensors", len(lost)-1), Kind: ErrIncomplete}
	}
	if !p.Has(m.refs.head) {
		m.refs.head = m.refs.embedding // tied
	}
	for _, l := range m.refs.layers {
		l.int8 = newInt8Cache(p, l)
	}
	if cfg.Vision != nil {
		m.tower = newTower(cfg, visionLost)
	}
	if cfg.MTPLayers > 0 {
		m.mtp = newMTP(m, m.refs.layers[cfg.Layers], mtpLost)
	}
	return m, nil
}

// Close releases the checkpoint of a model that Load opened.
func (m *Model) Close() error {
	if m.close == nil {
		return nil
	}
	return m.close()
}

// Config returns the model's config: read only.
func (m *Model) Config() *glm.Config { return m.cfg }

// Layers returns the number of decoder layers without the MTP layer.
func (m *Model) Layers() int { return m.cfg.Layers }

// Embed returns the embedding rows [len(ids), H]. An id outside of the
// vocabulary is an error that matches ErrToken.
func (m *Model) Embed(ids []int) ([]float32, error) { return m.embed(m.refs.embedding, ids) }

func (m *Model) embed(table *glm.Tensor, ids []int) ([]float32, error) {
	for i, id := range ids {
		if id < 0 || id >= m.cfg.VocabSize {
			return nil, &Error{Where: fmt.Sprintf("token %d", i), Reason: fmt.Sprintf("id %d, the vocabulary has %d", id, m.cfg.VocabSize), Kind: ErrToken}
		}
	}
	x := make([]float32, len(ids)*m.cfg.HiddenSize)
	return x, m.p.Gather(x, table, ids)
}

// Layer runs decoder layer i in place on the residual stream x [R, H]. Spans
// say which rows belong to which sequence, in order; their caches are those of
// this layer. This is the step of a layer-major pass: all rows of all sequences
// go through a layer while its weights are there. Layers that share an
// indexer's choice read Span.Keys, which the layer before them left there: keep
// it from layer to layer, with another Cache.
func (m *Model) Layer(ctx context.Context, i int, x []float32, spans []Span, tr *Trace) error {
	return m.layer(ctx, m.refs.layers[i], x, spans, tr)
}

func (m *Model) layer(ctx context.Context, l *refs, x []float32, spans []Span, tr *Trace) error {
	add := func(x []float32, w *glm.Tensor, f func(h []float32) ([]float32, error)) error {
		h, err := m.norm(x, w)
		if err == nil {
			h, err = f(h)
		}
		if err == nil {
			kernel.Add(x, h)
		}
		return err
	}
	blocks := m.blocks(x, spans)
	for _, b := range blocks {
		err := add(b.x, l.inNorm, func(h []float32) ([]float32, error) { return m.att.forward(ctx, m, l, h, b.spans) })
		if err != nil {
			return err
		}
	}
	tr.keys(l, spans)
	if l.router != nil { // experts see their own tokens only: one pass over their weights
		blocks = []block{{x, spans}}
	}
	for _, b := range blocks {
		if err := add(b.x, l.mlpNorm, func(h []float32) ([]float32, error) { return m.mlp(ctx, l, h, tr) }); err != nil {
			return err
		}
	}
	return nil
}

// block is a part of a pass: some sequences and their rows of the stream.
type block struct {
	x     []float32
	spans []Span
}

// blocks cuts a pass into runs of sequences of about Options.Block rows.
func (m *Model) blocks(x []float32, spans []Span) []block {
	if m.opt.Block <= 0 {
		return []block{{x, spans}}
	}
	var out []block
	for len(spans) > 0 {
		i, rows := 1, spans[0].N
		for i < len(spans) && rows+spans[i].N <= m.opt.Block {
			rows += spans[i].N
			i++
		}
		n := rows * m.cfg.HiddenSize
		out = append(out, block{x[:n], spans[:i:i]})
		x, spans = x[n:], spans[i:]
	}
	return out
}

// FinalNorm returns the state after model.norm [R, H]: what the head and the
// MTP layer read.
func (m *Model) FinalNorm(x []float32) ([]float32, error) { return m.norm(x, m.refs.norm) }

// Logits returns the logits [R, V] of normed states h [R, H].
func (m *Model) Logits(ctx context.Context, h []float32) ([]float32, error) {
	return m.linear(ctx, m.input(h, m.cfg.HiddenSize), m.refs.head, nil)
}
