package diff

import "math"

// together tells whether the codes of a weight that are not the nearest ones go
// together: a method that learns codes from data makes up in one column for what
// it did in another, alike in every row, and noise does not.
//
// With x[r][i] the steps that the code of row r and column i lies beside the
// nearest one, the product of two columns Σ_r x[r][i]·x[r][j] has a mean of 0
// and a variance of Σ_r x[r][i]²·x[r][j]² if the signs have nothing to do with
// each other, whatever the sizes are. What a column is off by on average, in all
// rows alike, is taken out before: no method does that. The sum of squares over
// all pairs of columns, less what it is on average, over its deviation, is then a
// standard normal number. Of GPTQ's codes it is 5 and more for a small matrix,
// and grows with rows and columns.
type together struct {
	cols                  int // how many are looked at
	cross, square, fourth []int32
	own, sum              []int64 // Σ x² and Σ x of a column
	rows                  int
	at                    []int32 // columns of a row that are off
	off                   []int32 // by how much
}

// togetherCols is how many columns of a weight are looked at.
const togetherCols = 256

// start begins with a weight.
func (t *together) start(cols int) {
	t.cols = min(cols, togetherCols)
	n := t.cols * t.cols
	for _, list := range []*[]int32{&t.cross, &t.square, &t.fourth} {
		if cap(*list) < n {
			*list = make([]int32, n)
		}
		*list = (*list)[:n]
		clear(*list)
	}
	t.own, t.sum, t.rows = make([]int64, t.cols), make([]int64, t.cols), 0
}

// note takes the code of a column of the current row that is off by some steps.
func (t *together) note(col, steps int) {
	if col < t.cols && steps != 0 {
		t.at, t.off = append(t.at, int32(col)), append(t.off, int32(max(-7, min(steps, 7)))) // 7⁴ of 800,000 rows fit
	}
}

// row ends a row.
func (t *together) row() {
	for a, i := range t.at {
		x := t.off[a]
		t.own[i] += int64(x * x)
		t.sum[i] += int64(x)
		for b := range a {
			j, p := t.at[b], x*t.off[b]
			k := int(max(i, j))*t.cols + int(min(i, j))
			t.cross[k] += p
			t.square[k] += p * p
			t.fourth[k] += p * p * p * p
		}
	}
	t.at, t.off = t.at[:0], t.off[:0]
	t.rows++
}

// deviations is the standard normal number; 0 where there are too few codes to
// say anything.
func (t *together) deviations() float64 {
	var sum, variance float64
	rows := float64(t.rows)
	for i := range t.cols {
		for j := range i {
			k := i*t.cols + j
			if t.square[k] == 0 {
				continue
			}
			n := float64(t.own[i]) * float64(t.own[j])
			c, q := float64(t.cross[k])-float64(t.sum[i])*float64(t.sum[j])/rows, float64(t.square[k])
			sum += (c*c - q*(1-2/rows) - n/(rows*rows)) / n
			variance += 2 * (q*q - float64(t.fourth[k])) / (n * n)
		}
	}
	if variance <= 0 {
		return 0
	}
	return sum / math.Sqrt(variance)
}
