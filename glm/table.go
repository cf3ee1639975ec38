package glm

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/safetensors"
)

// family is everything this package knows of one model_type, as data.
type family struct {
	family       Family
	architecture string
	nested       bool   // config.json has text_config and vision_config
	latent       bool   // multi-head latent attention
	sparse       bool   // sparse attention: an indexer chooses keys
	draftSteps   int    // tokens in a row that the MTP layer was trained to draft, 0 for one
	prefix       string // of the text model's tensors
	layer        []row  // rows of a decoder layer, below prefix + "layers.{L}."
	vision       []row  // full names; {B} is a block of the tower
}

// families is the registry. Adding a family is adding a file with a table and
// a line here.
var families = map[Family]*family{
	Glm4Moe:     &glm4Moe,
	Glm4vMoe:    &glm4vMoe,
	GlmMoeDsa:   &glmMoeDsa,
	Glm4MoeLite: &glm4MoeLite,
}

// row is one line of a family's table. Consecutive rows with {E} (or {B}) in
// the name repeat together, once an expert (or block).
type row struct {
	name  string
	role  Role
	shape string // see evalShape
	when  when
	group string // fused group, a module name below the same prefix
}

// when says in which layers, or for which configs, a row exists.
type when uint8

const (
	always    when = iota
	ifDense        // layers with a dense MLP
	ifSparse       // layers with experts
	ifBias         // attention_bias
	ifQKNorm       // use_qk_norm
	ifIndexer      // layers with an indexer of their own
	ifMTP          // MTP layers
	ifMTPCopy      // MTP layers, and may be absent there
)

// holds reports whether rows with condition w exist in decoder layer i.
func (c *Config) holds(w when, i int) bool {
	mtp := i >= c.Layers
	switch w {
	case ifDense:
		return !mtp && c.Dense[i]
	case ifSparse:
		return mtp || !c.Dense[i]
	case ifBias:
		return c.AttentionBias
	case ifQKNorm:
		return c.UseQKNorm
	case ifIndexer:
		return mtp || c.IndexerFull[i]
	case ifMTP, ifMTPCopy:
		return mtp
	}
	return true
}

// tableCache holds what Table and Index computed. It remembers for which
// Config that was, so that a copied Config computes its own.
type tableCache struct {
	owner     *Config
	rows      []Tensor
	positions map[string]int32
	index     map[string]*Tensor
}

var tableMu sync.Mutex

func (c *Config) table() *tableCache {
	tableMu.Lock()
	defer tableMu.Unlock()
	if c.cache == nil || c.cache.owner != c {
		c.cache = &tableCache{owner: c, rows: c.build(c.MTPLayers)}
	}
	return c.cache
}

// Table returns every tensor a checkpoint of this config holds under its
// official per-expert name, in natural order: embedding, decoder layers (the
// MTP layers last), final norm, head, vision tower. Optional copies of the MTP
// layer are included and marked. The slice is shared and must not be changed,
// nor the Config after the first call.
func (c *Config) Table() []Tensor { return c.table().rows }

// Index returns Table by name. The map is shared and must not be changed.
func (c *Config) Index() map[string]*Tensor {
	t := c.table()
	tableMu.Lock()
	defer tableMu.Unlock()
	if t.index == nil {
		t.index = make(map[string]*Tensor, len(t.rows))
		for i := range t.rows {
			t.index[t.rows[i].Name] = &t.rows[i]
		}
	}
	return t.index
}

// positions returns for each name its place in Table.
func (c *Config) positions() map[string]int32 {
	t := c.table()
	tableMu.Lock()
	defer tableMu.Unlock()
	if t.positions == nil {
		t.positions = rowPositions(t.rows)
	}
	return t.positions
}

func rowPositions(rows []Tensor) map[string]int32 {
	m := make(map[string]int32, len(rows))
	for i := range rows {
		m[rows[i].Name] = int32(i)
	}
	return m
}

// builder expands a family's rows. Shapes are computed once for each row of
// the table and shared by all the tensors that come of it.
type builder struct {
	c      *Config
	shapes map[string][]int64
	rows   []Tensor
}

// build returns the table with the given number of MTP layers.
func (c *Config) build(mtpLayers int) []Tensor {
	fam := families[c.Family]
	b := &builder{c: c, shapes: map[string][]int64{}}
	perLayer := len(fam.layer) + 3*c.Experts
	b.rows = make([]Tensor, 0, (c.Layers+mtpLayers)*perLayer+64+16*len(fam.vision))

	b.add(row{name: fam.prefix + "embed_tokens.weight", role: Embedding, shape: "V H"}, -1, -1)
	for i := range c.Layers + mtpLayers {
		rows := make([]row, 0, len(fam.layer))
		prefix := fam.prefix + "layers." + strconv.Itoa(i) + "."
		for _, r := range fam.layer {
			if c.holds(r.when, i) {
				r.name = prefix + r.name
				if r.group != "" {
					r.group = prefix + r.group
				}
				rows = append(rows, r)
			}
		}
		expand(rows, "{E}", c.Experts, func(r row, e int) { b.add(r, i, e) })
	}
	b.add(row{name: fam.prefix + "norm.weight", role: FinalNorm, shape: "H"}, -1, -1)
	b.add(row{name: "lm_head.weight", role: Head, shape: "V H"}, -1, -1)
	if c.TieEmbeddings {
		b.rows[len(b.rows)-1].Optional = true
	}
	if c.Vision != nil {
		expand(fam.vision, "{B}", c.Vision.Depth, func(r row, block int) { b.add(r, block, -1) })
	}
	return b.rows
}

// expand calls fn for each row in order; runs of rows with mark in the name
// are repeated n times, with mark replaced by the number.
func expand(rows []row, mark string, n int, fn func(r row, k int)) {
	for i := 0; i < len(rows); {
		end := i
		for end < len(rows) && strings.Contains(rows[end].name, mark) {
			end++
		}
		if end == i {
			fn(rows[i], -1)
			i++
			continue
		}
		run := rows[i:end]
		parts := make([][2]string, len(run))
		for j, r := range run {
			parts[j][0], parts[j][1], _ = strings.Cut(r.name, mark)
		}
		for k := range n {
			number := strconv.Itoa(k)
			for j, r := range run {
				r.name = parts[j][0] + number + parts[j][1]
				fn(r, k)
			}
		}
		i = end
	}
}

func (b *builder) add(r row, layer, expert int) {
	shape, ok := b.shapes[r.shape]
	if !ok {
		shape = slices.Clip(evalShape(b.c, r.shape))
		b.shapes[r.shape] = shape
	}
	dtype := safetensors.BF16
	if r.role == RouterBias {
		dtype = safetensors.F32
	}
	module, param := ModuleOf(r.name)
	b.rows = append(b.rows, Tensor{
		Name: r.name, Module: module, Param: param, Role: r.role, DType: dtype, Shape: shape,
		Layer: layer, Expert: expert, Group: r.group,
		MTP: layer >= b.c.Layers && !r.role.IsVision(), Optional: r.when == ifMTPCopy,
	})
}
