package fold

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
)

// Most is the largest exponent that Gamma gives; gains beyond 2^±Most stay with
// the rest in their norm.
const Most = 24

// ErrUnknown is matched by errors about exponents that do not belong to a model.
var ErrUnknown = errors.New("folds of another model")

// Exponents are those of a site, one a channel: consumers' columns are
// multiplied by 2^e, the producer's channels divided by it.
type Exponents []int8

// zero reports whether nothing is moved.
func (e Exponents) zero() bool { return !slices.ContainsFunc(e, func(v int8) bool { return v != 0 }) }

// MarshalText writes the exponents as base64 of their deflated bytes.
func (e Exponents) MarshalText() ([]byte, error) {
	raw := make([]byte, len(e))
	for i, v := range e {
		raw[i] = byte(v)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	return base64.StdEncoding.AppendEncode(nil, b.Bytes()), err
}

// maxChannels bounds what UnmarshalText takes: no dimension of a model is near.
const maxChannels = 1 << 20

// UnmarshalText reads what MarshalText wrote.
func (e *Exponents) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("exponents of a fold: %w", err)
	}
	raw, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxChannels+1))
	if err != nil {
		return fmt.Errorf("exponents of a fold: %w", err)
	}
	if len(raw) > maxChannels {
		return fmt.Errorf("exponents of a fold: more than %d", maxChannels)
	}
	*e = make(Exponents, len(raw))
	for i, v := range raw {
		(*e)[i] = int8(v)
	}
	return nil
}

// Set is the folds of a model: exponents by the name of the producer. Sites
// where nothing moves are not in it.
type Set struct {
	sites map[string]Exponents
}

// NewSet returns an empty set.
func NewSet() *Set { return &Set{map[string]Exponents{}} }

// Put sets the exponents of a site.
func (s *Set) Put(site *Site, e Exponents) {
	delete(s.sites, site.Name)
	if !e.zero() {
		s.sites[site.Name] = e
	}
}

// Get returns the exponents of a site, nil where nothing moves.
func (s *Set) Get(name string) Exponents {
	if s == nil {
		return nil
	}
	return s.sites[name]
}

// Len returns the number of sites where something moves.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.sites)
}

// Names lists the sites where something moves, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.sites)) }

// MarshalJSON writes an object of exponents by site.
func (s *Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.sites) }

// UnmarshalJSON reads it.
func (s *Set) UnmarshalJSON(b []byte) error {
	s.sites = map[string]Exponents{}
	return json.Unmarshal(b, &s.sites)
}

// Hash returns the SHA-256 of the set.
func (s *Set) Hash() string {
	h := sha256.New()
	for _, name := range s.Names() {
		fmt.Fprintf(h, "%s %d ", name, len(s.sites[name]))
		for _, e := range s.sites[name] {
			h.Write([]byte{byte(e)})
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Gamma returns the exponents of a norm with the given gains: of each the power
// of two nearest to it (in the logarithm), 0 for a gain of 0.
func Gamma(gains []float32) Exponents {
	e := make(Exponents, len(gains))
	for i, g := range gains {
		e[i] = Nearest(float64(g))
	}
	return e
}

// Nearest returns the rounded binary logarithm of |v|, within ±Most; 0 for
// values that have none.
func Nearest(v float64) int8 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	f, e := math.Frexp(math.Abs(v)) // f in [1/2, 1)
	if f < math.Sqrt2/2 {
		e--
	}
	return int8(min(max(e, -Most), Most))
}

// Spread returns the number of powers of two between the smallest and the
// largest exponent.
func (e Exponents) Spread() int {
	if len(e) == 0 {
		return 0
	}
	return int(slices.Max(e)) - int(slices.Min(e))
}

// Scalings returns what the folds make of every tensor that they change, by
// name in the family's table. Exponents of a site that the model does not have,
// or of another length, are an error that matches ErrUnknown.
func (s *Set) Scalings(cfg *glm.Config) (map[string]*Scaling, error) {
	out := map[string]*Scaling{}
	if s.Len() == 0 {
		return out, nil
	}
	found := 0
	for _, site := range Sites(cfg) {
		e := s.sites[site.Name]
		if e == nil {
			continue
		}
		found++
		if len(e) != site.Channels {
			return nil, fmt.Errorf("%w: %s has %d channels, its fold %d exponents", ErrUnknown, site.Name, site.Channels, len(e))
		}
		for _, p := range site.Producers {
			sc := scalingOf(out, p.Tensor)
			sc.Rows = p.add(sc.Rows, sc.rows, e, -1)
		}
		for _, p := range site.Consumers {
			sc := scalingOf(out, p.Tensor)
			sc.Cols = p.add(sc.Cols, sc.cols, e, 1)
		}
	}
	if found < len(s.sites) {
		return nil, fmt.Errorf("%w: %d of %d folds are of tensors that this model does not have", ErrUnknown, len(s.sites)-found, len(s.sites))
	}
	return out, nil
}

// add adds sign·e to the exponents of a tensor's rows or columns.
func (p *Part) add(to []int16, n int, e Exponents, sign int16) []int16 {
	if to == nil {
		to = make([]int16, n)
	}
	for i := range to {
		if c := p.Channel(i); c >= 0 {
			to[i] += sign * int16(e[c])
		}
	}
	return to
}

func scalingOf(m map[string]*Scaling, t *glm.Tensor) *Scaling {
	s := m[t.Name]
	if s == nil {
		s = &Scaling{rows: int(t.Shape[0]), cols: 1}
		if len(t.Shape) > 1 {
			s.cols = int(t.Shape[1])
		}
		m[t.Name] = s
	}
	return s
}
