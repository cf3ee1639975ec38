package kernel

// Rows gives access to the keys or values of a sequence: row t is slice[:width]
// and the n−1 rows after it follow ld apart, n >= 1.
type Rows func(t int) (slice []float32, ld, n int)

// Attention is the causal attention of some tokens of a sequence over all
// earlier ones, for the query heads that share one key and value head.
type Attention struct {
	Tokens, Heads int // of queries
	First         int // rows of keys that the first token sees, itself included
	KeyDim        int
	ValueDim      int
	Scale         float32
	Keys, Values  Rows
}

// Block returns for how many tokens of a sequence it is best to compute
// attention together when the last of them sees n rows.
func (a *Attention) Block(n int) int { return max(1, min(16, 1<<16/(a.Heads*max(n, 1)))) }

// Attend computes o = softmax(q·kᵀ·scale)·v. Head h of token i lies at
// q[i·ldq+h·KeyDim:] and o[i·ldo+h·ValueDim:]. Scores are dot products and
// outputs weighted sums, each in the order of PanelF32: a token's output does
// not depend on the tokens that are computed with it.
func (a *Attention) Attend(o []float32, ldo int, q []float32, ldq int) {
	const width = 64 // keys of a panel
	rows, last := a.Tokens*a.Heads, a.First+a.Tokens-1
	ld := (last+width-1)/width*width + 16 // not a multiple of 4 KiB
	buf := floats(rows*(ld+a.KeyDim+a.ValueDim) + a.KeyDim*width)
	defer buf.free()
	rest := buf.s
	cut := func(n int) (s []float32) { s, rest = rest[:n:n], rest[n:]; return s }
	scores, in, out, panel := cut(rows*ld), cut(rows*a.KeyDim), cut(rows*a.ValueDim), cut(a.KeyDim*width)
	for i := range a.Tokens {
		copy(in[i*a.Heads*a.KeyDim:][:a.Heads*a.KeyDim], q[i*ldq:])
	}
	for t := 0; t < last; t += width {
		end := min(t+width, last) // columns after it keep what they had: nobody looks
		for c := t; c < end; {
			s, lds, n := a.Keys(c)
			n = min(n, end-c)
			Transpose(panel[c-t:], width, s, lds, n, a.KeyDim)
			c += n
		}
		PanelF32(scores[t:], ld, in, a.KeyDim, panel, width, rows, width, a.KeyDim, false)
	}
	for r := range rows {
		s := scores[r*ld:][:a.First+r/a.Heads]
		Scale(s, a.Scale)
		Softmax(s)
	}
	// All rows see First tokens; the later ones of a block see some more.
	a.values(out, scores, ld, 0, a.First, rows)
	for i := 1; i < a.Tokens; i++ {
		a.values(out[i*a.Heads*a.ValueDim:], scores[i*a.Heads*ld:], ld, a.First, a.First+i, a.Heads)
	}
	for i := range a.Tokens {
		copy(o[i*ldo:][:a.Heads*a.ValueDim], out[i*a.Heads*a.ValueDim:])
	}
}

// values adds the weighted values of tokens lo … hi−1 to rows of out.
func (a *Attention) values(out, scores []float32, ld, lo, hi, rows int) {
	for t := lo; t < hi; {
		s, lds, n := a.Values(t)
		n = min(n, hi-t)
		PanelF32(out, a.ValueDim, scores[t:], ld, s, lds, rows, a.ValueDim, n, t > 0)
		t += n
	}
}

// Scale multiplies x by p.
func Scale(x []float32, p float32) {
	for i := scaleVector(x, p); i < len(x); i++ {
		x[i] *= p
	}
}
