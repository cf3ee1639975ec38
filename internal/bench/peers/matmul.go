package main

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// The width of one expert's gate projection in GLM-4.5-Air.
const expertK, expertN = 4096, 1408

// copies of a weight are used in turn, so that each call finds it in memory.
const copies = 12

// product compares one kind of matrix product at one number of tokens.
type product struct {
	*workspace
	name, op string // op of the driver
	m        int
	target   float64
	env      []string // of the peer
	note     string
	ours     func(p *product) func(i int)
	srv      *server
	call     func(i int)
}

func products(w *workspace) (out []task) {
	for _, m := range []int{64, 512} {
		add := func(p product) {
			p.workspace, p.m = w, m
			out = append(out, &p)
		}
		add(product{name: "int8 weights and activations, scales applied", op: "int8", note: "_int_mm, no scales", target: 1, ours: int8Ready})
		if hasAMX() {
			add(product{name: "int8 weights and activations, scales applied", op: "int8", note: "_int_mm, no scales, AMX off", target: 1, ours: int8Ready,
				env: noAMX})
		}
		add(product{name: "int8, activations quantised for each token", op: "int8dynamic", note: "the same with _int_mm", ours: int8Dynamic})
		if hasAMX() {
			add(product{name: "int8, activations quantised for each token", op: "int8dynamic", note: "the same with _int_mm, AMX off", ours: int8Dynamic,
				env: noAMX})
		}
		add(product{name: "BF16 weights, float32 activations", op: "float32", note: "float32 mm", target: 1.5, ours: bfloat})
	}
	return out
}

// noAMX keeps oneDNN from AMX and leaves it everything else.
var noAMX = []string{"ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16"}

func (p *product) rows() []Row {
	return []Row{{Figure: p.name + ", " + strconv.Itoa(p.m) + " tokens", Peer: p.version("core", "torch") + " " + p.note, Unit: "GFLOP/s", Target: p.target}}
}

func (p *product) open(ctx context.Context) (err error) {
	if err := p.install(ctx, "core"); err != nil {
		return err
	}
	p.call = p.ours(p)
	var hello struct{ Version string }
	p.srv, err = start(&hello, p.env, p.python("core"), p.driver("matmul.py"), strconv.Itoa(p.threads), strconv.Itoa(expertK), strconv.Itoa(expertN))
	return err
}

func (p *product) close() error { p.call = nil; return p.srv.close() }

// least is how long a measurement takes at least.
const least = 500 * time.Millisecond

func (p *product) pair(context.Context) (ours, theirs []float64, err error) {
	p.call(0)
	start, calls := time.Now(), 0
	for time.Since(start) < least {
		p.call(calls % copies)
		calls++
	}
	a := time.Since(start).Seconds() / float64(calls)
	b, err := p.srv.seconds(map[string]any{"op": p.op, "m": p.m, "seconds": least.Seconds()})
	if err != nil {
		return nil, nil, err
	}
	flop := 2 * float64(p.m) * expertK * expertN / 1e9
	return []float64{flop / a}, []float64{flop / b.Seconds()}, nil
}

func normal(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func int8Weights(r *rand.Rand) (ws [copies]*numeric.Matrix) {
	codes, scales := make([]byte, expertK*expertN), normal(r, expertN)
	for i := range codes {
		codes[i] = byte(int8(r.IntN(255) - 127))
	}
	for i := range ws {
		ws[i] = &numeric.Matrix{Code: numeric.Int8, Rows: expertN, Cols: expertK, BlockRows: 1, BlockCols: expertK, Codes: append([]byte(nil), codes...),
			Scales: scales}
	}
	return ws
}

func int8Ready(p *product) func(int) {
	r := rand.New(rand.NewPCG(1, 2))
	ws, y, workers := int8Weights(r), make([]float32, p.m*expertN), &kernel.Workers{N: p.threads}
	a := kernel.QuantizeInt8(normal(r, p.m*expertK), p.m, expertK, kernel.EngineDivisor, workers)
	return func(i int) { kernel.Int8(y, expertN, a, ws[i], workers) }
}

func int8Dynamic(p *product) func(int) {
	r := rand.New(rand.NewPCG(1, 2))
	ws, y, workers := int8Weights(r), make([]float32, p.m*expertN), &kernel.Workers{N: p.threads}
	x := normal(r, p.m*expertK)
	return func(i int) {
		kernel.Int8(y, expertN, kernel.QuantizeInt8(x, p.m, expertK, kernel.EngineDivisor, workers), ws[i], workers)
	}
}

func bfloat(p *product) func(int) {
	r := rand.New(rand.NewPCG(1, 2))
	x, y, workers := normal(r, p.m*expertK), make([]float32, p.m*expertN), &kernel.Workers{N: p.threads}
	var w []byte
	for _, v := range normal(r, expertK*expertN) {
		w = binary.LittleEndian.AppendUint16(w, uint16(math.Float32bits(v)>>16))
	}
	var ws [copies][]byte
	for i := range ws {
		ws[i] = append([]byte(nil), w...)
	}
	return func(i int) {
		kernel.Float(y, expertN, x, p.m, kernel.BF16, ws[i], expertN, expertK, workers)
	}
}
