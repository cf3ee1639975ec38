package quant

import (
	"encoding/json"
	"fmt"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// ManifestName is the file that is written last: a directory without it is
// unfinished.
const ManifestName = "glmconv-manifest.json"

const manifestSchema = "glmconv.manifest/1"

// Manifest says what a result is made of.
type Manifest struct {
	Schema      string            `json:"schema"`
	Version     string            `json:"version"` // of glmconv
	Scheme      Scheme            `json:"scheme"`
	Format      Format            `json:"format"`
	Arith       string            `json:"arith"`
	GroupSize   int               `json:"group_size"`
	MTP         string            `json:"mtp"`
	Rest        layout.RestMode   `json:"rest,omitempty"`
	Inputs      *Inputs           `json:"inputs,omitempty"` // what the inputs' scales were made of
	Family      string            `json:"family"`
	Fingerprint string            `json:"fingerprint"`      // of the plan, the source's headers included
	Source      *ManifestSource   `json:"source,omitempty"` // where it was read from, if not from a folder
	Files       []ManifestFile    `json:"files"`
	Dropped     map[string]string `json:"dropped"`               // tensor → rule
	Zeros       []Zeros           `json:"zeros,omitempty"`       // weights of the source that are zero or have holes
	Fold        FoldMode          `json:"fold,omitempty"`        // how the folds were chosen
	Folds       *fold.Set         `json:"folds,omitempty"`       // exponents by producer (package fold)
	Method      string            `json:"method,omitempty"`      // how codes were learnt from text; "" for rounding
	Learnt      string            `json:"learnt,omitempty"`      // SHA-256 of what decided them
	Calibration *Calibration      `json:"calibration,omitempty"` // the text
	Rotated     bool              `json:"rotated,omitempty"`     // the source was rotated before (package rotation)
	KV          KVMode            `json:"kv,omitempty"`          // caches that engines are asked to keep in int8
	// Lifted are the fused groups that have something richer than the scheme's.
	Lifted  map[string]layout.Lift `json:"lifted,omitempty"`
	Errors  Summary                `json:"errors"`
	Tensors []TensorError          `json:"tensors"`
}

// ManifestSource says where a remote source was read from. It is all by which the
// manifest of a result differs from that of a conversion of a copy on a disk.
type ManifestSource struct {
	URI    string       `json:"uri"`              // without credentials and query, with the commit
	Commit string       `json:"commit,omitempty"` // "" where there are none
	Pinned bool         `json:"pinned"`           // to a commit, which nothing changes
	Files  []SourceFile `json:"files"`
}

// SourceFile is a file of a remote source that went into a result.
type SourceFile struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256,omitempty"`  // as published
	Version string `json:"version,omitempty"` // entity tag, or what else changes with the bytes
	Check   string `json:"check"`             // what of it was compared: sha256, git-sha1, size+etag
}

// ManifestFile is one file of the result.
type ManifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// SourceXXH3 is, for a shard, a checksum of the source's bytes that it was made
	// from: the sum of XXH3 over their rows (package bytesum), 16 hexadecimal digits.
	SourceXXH3 string `json:"source_xxh3,omitempty"`
}

// TensorError is the weight error of one tensor: root of Σ(ŵ−w)²/Σw².
type TensorError struct {
	Name     string  `json:"name"`
	Scheme   string  `json:"scheme"`
	Relative float64 `json:"relative"`
	Max      float64 `json:"max"`
}

// Summary condenses weight errors by scheme.
type Summary struct {
	Schemes []SchemeError `json:"schemes"`
	Worst   []TensorError `json:"worst"`
}

// SchemeError is the error over all weights of one scheme. Plain is what
// absmax rounding would have given where a search ran.
type SchemeError struct {
	Scheme   string  `json:"scheme"`
	Weights  int     `json:"weights"`
	Relative float64 `json:"relative"`
	Plain    float64 `json:"plain"`
}

// ReadManifest reads the manifest of a finished result.
func ReadManifest(dir string) (*Manifest, error) {
	b, err := fsx.ReadIn(dir, ManifestName, fsx.MaxText)
	if err != nil {
		return nil, err
	}
	return ParseManifest(b)
}

// ParseManifest reads the text of a manifest.
func ParseManifest(b []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if m.Schema != manifestSchema {
		return nil, fmt.Errorf("%s: schema %q, this version reads %q", ManifestName, m.Schema, manifestSchema)
	}
	return &m, nil
}

// Manifest says of a result what the plan decides: all but its files and errors.
func (p *Plan) Manifest(version string) *Manifest {
	m := &Manifest{Schema: manifestSchema, Version: version, Scheme: p.Scheme, Format: p.Format, Arith: arithName(p.Options.Arith),
		GroupSize: p.Options.GroupSize, MTP: string(p.Options.MTP), Rest: p.Options.Rest, Inputs: p.Options.Inputs, Family: string(p.Config.Family),
		Fingerprint: p.Fingerprint, Dropped: map[string]string{}, Folds: p.moved(), Rotated: p.Options.Rotation != nil, KV: p.Options.KV, Lifted: p.Options.Lifted, Calibration: p.Calibration}
	if p.codes != nil {
		m.Method, m.Learnt = p.codes.Method(), p.codes.ID()
	}
	if m.Folds != nil {
		m.Fold = p.Options.Fold
	}
	for i := range p.Items {
		if p.Items[i].Action == Drop {
			m.Dropped[p.Items[i].Name()] = p.Items[i].Reason
		}
	}
	return m
}

func arithName(a numeric.Arith) string {
	if a == numeric.Compat {
		return "compat"
	}
	return "best"
}
