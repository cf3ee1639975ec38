package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/source"
)

const planFileSchema = "glmconv.plan-file/1"

// maxPlanFile and maxPlanText bound a plan file, in bytes, as it lies on the disk
// and unpacked.
const maxPlanFile, maxPlanText = 256 << 20, 1 << 30

// planFile is what plan --save writes, packed with gzip.
type planFile struct {
	Schema      string       `json:"schema"`
	Fingerprint string       `json:"fingerprint"`      // of the plan: headers, scheme and options
	Source      *reach.Saved `json:"source,omitempty"` // of a remote source
}

// savePlan writes a plan file.
func savePlan(c *cli.Context, out *output, arg string, p *quant.Plan) error {
	if out == nil {
		return nil
	}
	f := planFile{Schema: planFileSchema, Fingerprint: p.Fingerprint}
	if s := remotesOf(c).open[arg]; s != nil {
		var err error
		if f.Source, err = s.Save(c.Context); err != nil {
			return err
		}
	}
	return out.put(func(w io.Writer) error {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err == nil {
			err = json.NewEncoder(z).Encode(f)
		}
		if err != nil {
			return err
		}
		return z.Close()
	})
}

// planError says that a plan file cannot be used.
func planError(name, why string) error {
	return &source.Error{Kind: source.ErrRefused, Where: name, Reason: why, Advice: "make the plan file again: glmconv plan --save FILE, with the same options"}
}

// readPlanFile reads the file of --plan, nil if there is none.
func readPlanFile(c *cli.Context) (*planFile, error) {
	name := c.String("plan")
	if name == "" {
		return nil, nil
	}
	raw, err := fsx.ReadRegular(name, maxPlanFile)
	if err != nil {
		return nil, err
	}
	return parsePlanFile(name, raw)
}

func parsePlanFile(name string, raw []byte) (*planFile, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, planError(name, "is no file of glmconv plan --save")
	}
	text, err := io.ReadAll(io.LimitReader(z, maxPlanText+1))
	if err != nil || len(text) > maxPlanText {
		return nil, planError(name, "is damaged: it cannot be unpacked")
	}
	var f planFile
	if err := json.Unmarshal(text, &f); err != nil || f.Schema != planFileSchema || f.Fingerprint == "" {
		return nil, planError(name, fmt.Sprintf("is no plan file of this version (%s)", planFileSchema))
	}
	return &f, nil
}

// openRemote opens an address, with what a plan file has of it.
func openRemote(c *cli.Context, arg string, o reach.Options) (*reach.Source, error) {
	f, err := readPlanFile(c)
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return reach.Open(c.Context, arg, o)
	case f.Source == nil:
		return nil, planError(c.String("plan"), "was made of a folder, and "+arg+" is an address")
	}
	return reach.OpenSaved(c.Context, arg, o, f.Source)
}

// fitsPlan compares a plan with that of --plan.
func fitsPlan(c *cli.Context, p *quant.Plan) error {
	f, err := readPlanFile(c)
	if err != nil || f == nil {
		return err
	}
	if f.Fingerprint != p.Fingerprint {
		return planError(c.String("plan"), "is of another plan: the source's headers, the scheme or another option differ")
	}
	return nil
}
