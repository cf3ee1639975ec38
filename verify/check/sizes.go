package check

import (
	"context"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// How far a matrix may be from others. Matrices of one place differ by factors of
// two to four between the layers of a trained model, and less between experts.
const (
	hugeSize   = 16   // no trained weight has values of this size
	tinySize   = 1e-7 // nor a whole matrix of this one
	otherSize  = 32   // from the matrices of its place, or the reverse: damaged
	foldedSize = 256  // the same where a layer's norm was put into what reads it
	oddSize    = 8    // worth a word where the others are within a factor of two
	kinSize    = 64   // and where all linears are what it is compared with
)

// extent is what a few rows of a matrix show of its values.
type extent struct {
	m        *module
	name     string  // of the tensor of its values or codes
	rms      float64 // the median of its rows' root mean squares; 0: not known
	inverted float64 // the same with the reciprocals of its scales; 0: it has none
	scale    string  // the tensor that would be reciprocals
	pairs    int     // of neighbouring rows that were compared
	equal    int     // of them that are equal
}

// sizes compares the matrices of a model with each other: scales that were stored
// as reciprocals, or are of another weight, leave every tensor well-formed.
type sizes struct{ seen []*extent }

// sampledRows is how many rows are read at a place, and sampledPlaces of how many
// places of a matrix.
const sampledRows, sampledPlaces = 8, 4

// sizeJobs read rows of a module, before all of it is read: what a remote source
// fetches for them serves both.
func (s *subject) sizeJobs(m *module, l *sizes) []job {
	if s.ckpt == nil || !s.opts.Weights || m.broken != nil || m.o < 2 || m.i < 8 || m.form.kind == absent || m.row.Param != "weight" || m.row.Role == glm.VisionConv {
		return nil
	}
	x := &extent{m: m}
	read, rows, align := s.sampler(m, x)
	if read == nil {
		return nil
	}
	l.seen = append(l.seen, x)
	return []job{{0, func(ctx context.Context) ([]Finding, error) {
		x.sample(ctx, read, rows, align)
		return nil, nil
	}}}
}

// rowReader gives a row's values, and those with the reciprocals of its scales.
type rowReader func(lo, hi int) (rows, inverted [][]float32, err error)

// sampler finds out how rows of a module are read; nil where they cannot be.
func (s *subject) sampler(m *module, x *extent) (read rowReader, rows, align int) {
	if t, ok := m.params["weight"]; m.stack != nil || ok && isFloat(t.DType) && t.DType != safetensors.F64 {
		if m.stack != nil {
			if t = m.stack.Source; !isFloat(t.DType) || t.DType == safetensors.F64 {
				return nil, 0, 0
			}
			t.Offset, t.Size = t.Offset+m.stack.Offset, m.stack.Size
		}
		if x.name = t.Name; t.Size != m.o*m.i*int64(t.DType.Bits()/8) {
			return nil, 0, 0
		}
		return s.plainRows(t, int(m.i)), int(m.o), 1
	}
	hints := layout.Hints{Cols: func(string) int { return int(m.i) }, Declared: func(string) format.Weight {
		if s.decl == nil || s.decl.Declaration == nil {
			return format.Weight{}
		}
		return s.decl.Of(m.row.Module).Weights()
	}}
	st, err := layout.Lookup(s.reader(), m.row.Module, hints)
	if err != nil || !st.Quantized() || st.Rows != int(m.o) || st.Cols != int(m.i) {
		return nil, 0, 0
	}
	x.name, x.scale = st.Codes.Name, st.Scale.Name
	if st.Global.Name != "" {
		x.scale = st.Global.Name
	}
	return s.storedRows(&st), st.Rows, max(st.RowAlign(), 1)
}

func (s *subject) plainRows(t safetensors.Info, cols int) rowReader {
	width := int64(cols) * int64(t.DType.Bits()/8)
	return func(lo, hi int) ([][]float32, [][]float32, error) {
		raw := make([]byte, int64(hi-lo)*width)
		if err := s.ckpt.ReadAt(t, int64(lo)*width, raw); err != nil {
			return nil, nil, err
		}
		vals := make([]float32, (hi-lo)*cols)
		if err := decodeFloats(vals, raw, t.DType); err != nil {
			return nil, nil, err
		}
		return slices.Collect(slices.Chunk(vals, cols)), nil, nil
	}
}

func (s *subject) storedRows(st *layout.Stored) rowReader {
	return func(lo, hi int) (rows, inverted [][]float32, err error) {
		x, err := layout.ReadRows(s.ckpt, *st, lo, hi)
		if err != nil {
			return nil, nil, err
		}
		global := float32(0)
		if st.Global.Name != "" {
			if global, err = st.GlobalScale(s.ckpt); err != nil {
				return nil, nil, err
			}
		}
		return decodedRows(x), decodedRows(reciprocal(x, global)), nil
	}
}

// decodedRows are the first rows of a matrix, whatever it was read in steps of.
func decodedRows(x *numeric.Matrix) (rows [][]float32) {
	for r := range min(x.Rows, sampledRows) {
		v := make([]float32, x.Cols)
		x.Dequant(v, r, r+1)
		rows = append(rows, v)
	}
	return rows
}

// reciprocal is a matrix with 1/scale for each scale, or for the scale of its
// scales where there is one.
func reciprocal(x *numeric.Matrix, global float32) *numeric.Matrix {
	y := *x
	y.Scales = make([]float32, len(x.Scales))
	for i, v := range x.Scales {
		switch {
		case global != 0:
			y.Scales[i] = v / global / global
		case v != 0:
			y.Scales[i] = 1 / v
		}
	}
	return &y
}

// sample reads rows of some places. What cannot be read is told of elsewhere.
func (x *extent) sample(ctx context.Context, read rowReader, rows, align int) {
	step := ceilDiv(sampledRows, int64(align)) * int64(align)
	var sums, inverted []float64
	last := -1
	for i := range sampledPlaces {
		lo := int(int64(rows) * int64(i) / sampledPlaces / int64(align) * int64(align))
		if lo <= last || ctx.Err() != nil {
			continue
		}
		hi := min(lo+int(step), rows)
		a, b, err := read(lo, hi)
		if err != nil {
			return
		}
		last = hi - 1
		for j, v := range a {
			sums = append(sums, rootMean(v))
			if j > 0 {
				x.pairs++
				if parallel(a[j-1], v) {
					x.equal++
				}
			}
		}
		for _, v := range b {
			inverted = append(inverted, rootMean(v))
		}
	}
	x.rms, x.inverted = median(sums), median(inverted)
}

// parallel tells whether two rows are equal, or would be with one scale.
func parallel(a, b []float32) bool {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return aa > 0 && bb > 0 && ab > 0 && ab*ab > aa*bb*(1-1e-9)
}

func rootMean(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum / float64(len(v)))
}

// median of a list; 0 for none, or where it is not finite.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if m := v[len(v)/2]; !math.IsInf(m, 0) && !math.IsNaN(m) {
		return m
	}
	return 0
}

// findings names the matrices whose values are of a size that no trained one has,
// or far from the others of their place in the model.
func (l *sizes) findings(folded bool) (out []Finding) {
	places := map[string][]float64{}
	var linears, vision []float64
	for _, x := range l.seen {
		if x.rms == 0 {
			continue
		}
		places[placeOf(&x.m.row)] = append(places[placeOf(&x.m.row)], x.rms)
		switch {
		case x.m.row.Role.IsLinear():
			linears = append(linears, x.rms)
		case x.m.row.Role == glm.VisionLinear:
			vision = append(vision, x.rms)
		}
	}
	for _, list := range places {
		slices.Sort(list)
	}
	whole, tower := median(linears), median(vision)
	for _, x := range l.seen {
		if f := x.judgeRows(); f != nil {
			out = append(out, *f)
		}
		if x.rms == 0 {
			continue
		}
		kin := 0.0 // what it is compared with where it is alone
		switch r := x.m.row.Role; {
		case r.IsLinear(), r == glm.MTPProj:
			kin = whole
		case r == glm.VisionLinear:
			kin = tower
		}
		if f := x.judge(places[placeOf(&x.m.row)], kin, folded); f != nil {
			out = append(out, *f)
		}
	}
	return out
}

// judgeRows notices rows that are equal. Tokens that nobody uses may have equal
// rows rightly.
func (x *extent) judgeRows() *Finding {
	table := x.m.row.Role == glm.Embedding || x.m.row.Role == glm.Head
	if x.m.row.Role == glm.MTPEmbedding || x.m.row.Role == glm.MTPHead { // compared with the model's own
		return nil
	}
	if x.pairs < 7 || x.equal == 0 || x.equal < x.pairs && (table || 4*x.equal < x.pairs) {
		return nil
	}
	f := found("rows-equal", x.name, sprintf("%d of %d rows that were compared with the next are equal to it, or differ by a factor only", x.equal, x.pairs))
	if x.equal < x.pairs {
		f.as(Warning)
	}
	return &f
}

// placeOf is a name without the numbers of layer, expert and block.
func placeOf(row *glm.Tensor) string {
	parts := strings.Split(row.Name, ".")
	for i, p := range parts {
		if _, err := strconv.Atoi(p); err == nil {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// judge compares a matrix with the sizes at its place, sorted, or where it is alone
// there with its kin.
func (x *extent) judge(place []float64, kin float64, folded bool) *Finding {
	usual, tight := x.usual(place)
	limit, sure, of := float64(otherSize), true, "those of the same weight elsewhere in the model"
	switch {
	case usual == 0:
		usual, limit, sure, of = kin, kinSize, false, "those of the model's other linears"
	case folded && readsNorm(x.m.row.Role):
		limit = foldedSize
	}
	ratio := 1.0
	if usual > 0 {
		ratio = x.rms / usual
	}
	apart := func(limit float64) bool { return ratio > limit || ratio < 1/limit }
	var f Finding
	switch {
	case x.rms > hugeSize || x.rms < tinySize:
		f = found("weight-size", x.name, sprintf("its values are around %.2g, as in no trained weight%s", x.rms, x.why(usual)))
	case apart(limit), tight && apart(oddSize):
		f = found("weight-size", x.name, sprintf("its values are around %.2g, %s around %.2g%s", x.rms, of, usual, x.why(usual)))
		if !sure || !apart(limit) || ratio < 1 && x.m.row.Role.IsExpert() { // an expert that was never chosen may shrink to nothing
			f.as(Warning)
		}
	default:
		return nil
	}
	return &f
}

// usual is the size of the other matrices of a place, whose sizes are sorted, and
// whether they agree. It is 0 where there are not two of them, or no majority has it.
func (x *extent) usual(place []float64) (usual float64, tight bool) {
	others := len(place) - 1
	if others < 2 {
		return 0, false
	}
	own, _ := slices.BinarySearch(place, x.rms)
	mid := others / 2
	if mid >= own {
		mid++
	}
	usual = place[mid]
	within := func(factor float64) int {
		lo := sort.Search(len(place), func(i int) bool { return place[i] > usual/factor })
		hi := sort.Search(len(place), func(i int) bool { return place[i] >= usual*factor })
		if lo <= own && own < hi {
			return hi - lo - 1
		}
		return hi - lo
	}
	if 2*within(4) <= others {
		return 0, false
	}
	return usual, within(2) >= others-others/8 // one of eight may be as odd
}

// storedInverse ends the detail of a weight whose scales are reciprocals.
const storedInverse = ": it is stored as 1/scale"

// why says what would explain a size: scales stored as reciprocals.
func (x *extent) why(usual float64) string {
	low, high := 1e-4, 1.0
	if usual > 0 && usual < hugeSize {
		low, high = usual/8, usual*8
	}
	if x.inverted > low && x.inverted < high {
		return sprintf("; with the reciprocals of %s they would be around %.2g"+storedInverse, x.scale, x.inverted)
	}
	return ""
}

// readsNorm tells whether what a linear reads comes from a norm, whose gains it
// may have taken over.
func readsNorm(r glm.Role) bool {
	switch r {
	case glm.AttnO, glm.DenseDown, glm.SharedDown, glm.ExpertDown, glm.Embedding, glm.MTPEmbedding:
		return false
	}
	return true
}

// tellSizes adds what matrices show beside each other, where nothing else is
// wrong with them.
func (s *subject) tellSizes(l *sizes, folded bool) {
	said := map[string]bool{}
	for _, f := range s.report.Findings {
		if f.Severity == Error {
			said[f.Where] = true
		}
	}
	for _, f := range l.findings(folded) {
		module, _ := glm.ModuleOf(f.Where)
		if !said[f.Where] && !said[module] && !said[module+".weight_scale"] {
			s.report.Findings = append(s.report.Findings, f)
		}
	}
}

// reciprocals counts the weights whose size the reciprocals of scales explain.
func (s *subject) reciprocals() (n int) {
	for _, f := range s.report.Findings {
		if f.Code == "weight-size" && f.Severity == Error && strings.HasSuffix(f.Detail, storedInverse) {
			n++
		}
	}
	return n
}
