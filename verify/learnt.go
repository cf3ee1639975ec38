package verify

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/glmconv/glmconv/verify/diff"
)

// Codes whose rounding is not known are of one of three kinds. Either they are
// those nearest to the source with the scales as stored, whatever chose the
// scales: then every code can be judged. Or they were learnt from data. GPTQ and
// its like take other codes than the nearest where the errors of a row's columns
// make up for each other, and the same columns do so in every row; AutoRound
// takes the upper or the lower neighbour of each value. Or they are noise, which
// knows of no other column, grows with the values, or goes beyond the neighbours.
// Noise of less than a fifth of a step, alike below small values and large ones,
// looks like AutoRound's codes: that is not judged.
const (
	// nearestOff is the share of codes that may be others than the nearest in a
	// weight that was rounded to nearest: ties, and scales that were rounded once
	// more after the codes were computed.
	nearestOff = 0.002
	// noisyOff and noisyBeyond say how many codes must be off, and how far past
	// the middle between two codes, to be more than the rounding of a source or of
	// scales: through BF16, 0.02 codes and 0.01 steps, of 8 bits 0.06 and 0.04.
	noisyOff, noisyBeyond, noisyBeyond8 = 0.01, 0.02, 0.06
	// learnt is from how many deviations on codes go together. Of GPTQ's codes of
	// two dozen small matrices it is 20 and more, of noise's more than 4 once in
	// 30,000 cases.
	learnt = 4.0
	// enough codes must be off to show it.
	enough = 20000
	// heavy and farOff tell noise from codes that AutoRound learnt, one by one,
	// so that they do not go together: those are off as often below small values
	// as below large ones (heavy 0 ± 0.2), and never by more than a step.
	heavy, farOff = 0.5, 0.001
)

// pool is what the weights of one kind have in common.
type pool struct {
	modules, nearest int
	off, far, heavy  []float64 // of those that are not nearest
	codes            float64   // that are off
	together         float64   // sum of standard normal numbers
	worst            diff.Module
}

// deviations is a standard normal number for the kind, if its codes are noise.
func (p *pool) deviations() float64 {
	return p.together / math.Sqrt(float64(max(p.modules-p.nearest, 1)))
}

// learnt reports whether most weights of the kind have other codes than the
// nearest, which go together.
func (p *pool) learnt() bool {
	return p != nil && 2*p.nearest <= p.modules && p.codes >= enough && p.deviations() >= learnt && median(p.heavy) <= heavy
}

// far reports whether codes that are not the nearest are so by more than
// rounding explains.
func far(m diff.Module) bool {
	if m.B.Weight.Bits == 8 {
		return float64(m.Grid.Beyond) > noisyBeyond8
	}
	return float64(m.Grid.Beyond) > noisyBeyond
}

// nearest reports whether a weight's codes are the nearest ones.
func nearest(m diff.Module) bool { return float64(m.Grid.Off) <= nearestOff || !far(m) }

// noisy reports whether more of them are not than ties account for.
func noisy(m diff.Module) bool { return float64(m.Grid.Off) > noisyOff && far(m) }

// pools sorts the weights without an oracle by what they are quantized to.
func pools(list []diff.Module) map[string]*pool {
	out := map[string]*pool{}
	for _, m := range list {
		if m.Grid == nil || m.Own != nil || m.Why != "" {
			continue
		}
		p := out[m.B.String()]
		if p == nil {
			p = &pool{}
			out[m.B.String()] = p
		}
		p.modules++
		if nearest(m) {
			p.nearest++
			continue
		}
		p.off, p.far, p.heavy = append(p.off, float64(m.Grid.Off)), append(p.far, float64(m.Grid.Far)), append(p.heavy, float64(m.Grid.Heavier))
		p.codes += float64(m.Grid.Off) * float64(m.Elements)
		p.together += float64(m.Grid.Together)
		if p.worst.Grid == nil || m.Grid.Off > p.worst.Grid.Off {
			p.worst = m
		}
	}
	return out
}

// judgeLearnt says of each kind of weights whose rounding is not known whether
// their codes are the nearest, learnt, or noise.
func (r *Result) judgeLearnt(list []diff.Module) {
	kinds := pools(list)
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		p := kinds[name]
		off := median(p.off)
		switch {
		case 2*p.nearest > p.modules:
			r.Oracle.Nearest += p.nearest
			r.basis("%s: nearest to the source with the stored scales in %d of %d weights; what chose the scales is not judged", name, p.nearest, p.modules)
			r.strays(list, name, p)
		case off <= noisyOff:
			r.basis("%s: nearest to the source but for %.2g of the codes", name, off)
		case p.codes < enough:
			r.notJudged(p, "%s: too few weights to tell codes that were learnt from noise", name)
		case median(p.heavy) > heavy:
			r.noise(p, name, "most below large values, as noise in proportion to the weights makes them")
		case p.deviations() >= learnt:
			r.changed(list, name)
			r.basis("%s: learnt from data: %.2g of the codes are not the nearest, and their errors make up for each other between columns "+
				"(%.3g deviations from noise)", name, off, p.deviations())
		case median(p.far) > farOff:
			r.noise(p, name, "some by more than a step, and their errors have nothing to do with each other, which those of learnt codes have")
		default:
			r.notJudged(p, "%s: %.2g of the codes are not the nearest, none by more than a step: AutoRound's, or noise of less than a fifth of a step", name, off)
		}
	}
}

// few is the share of a kind's weights up to which those that are not nearest
// are strays, whatever they look like: a method that learns does so for more.
const few = 0.05

// strays looks for the weights, of a kind that was rounded to nearest, that were
// not: all where they are few, else those that were not learnt.
func (r *Result) strays(list []diff.Module, name string, p *pool) {
	alone := float64(len(p.off)) <= max(1, few*float64(p.modules))
	for _, m := range list {
		if m.Grid == nil || m.Own != nil || m.B.String() != name || !noisy(m) {
			continue
		}
		g := m.Grid
		if alone || float64(g.Together) < learnt || float64(g.Heavier) > heavy || float64(g.Error) > farthest*float64(g.Nearest) {
			r.fail("oracle", m.Name, fmt.Sprintf("as %s %.2g of its codes are not those nearest to the source (by %.2g steps), which they are in %d other weights",
				m.B, float64(g.Off), float64(g.Beyond), p.nearest))
		}
	}
}

// changed looks for single weights, of a kind that was learnt, whose codes are off
// in proportion to the values: scales that are not theirs leave that.
func (r *Result) changed(list []diff.Module, name string) {
	for _, m := range list {
		if m.Grid != nil && m.Own == nil && m.B.String() == name && noisy(m) && float64(m.Grid.Heavier) > heavy {
			r.fail("oracle", m.Name, fmt.Sprintf("as %s %.2g of its codes are not those nearest to the source, most of them below large values, "+
				"and in other weights they are as many below small ones: its scales are not its own, or it was changed before it was rounded", m.B, float64(m.Grid.Off)))
		}
	}
}

// noise is the failure of a kind of weights.
func (r *Result) noise(p *pool, name, why string) {
	r.fail("oracle", p.worst.Name, fmt.Sprintf("as %s, like %d other weights: %.2g of the codes are not those nearest to the source, %s: "+
		"nothing shows that they were learnt, the weights were changed before they were rounded",
		name, len(p.off)-1, median(p.off), why))
}

// notJudged says why nothing can be said of the codes of a kind of weights.
// What the model computes with them may still be measured.
func (r *Result) notJudged(p *pool, format string, args ...any) {
	r.basis("not judged: "+format, args...)
	r.Oracle.NotJudged, r.Oracle.Worst = true, p.worst.Name
}

// basis adds to what the oracle rests on.
func (r *Result) basis(format string, args ...any) {
	if r.Oracle.Basis != "" {
		r.Oracle.Basis += "; "
	}
	r.Oracle.Basis += fmt.Sprintf(format, args...)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
