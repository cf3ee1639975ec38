package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// hollow writes what quantize would, with holes for data: configuration, index
// and shards with their final headers and sizes. what is "SCHEME", "SCHEME/FORMAT",
// "SCHEME/FORMAT/MTP", "SCHEME/FORMAT/MTP/static,c8", "…/rest-int8,channel" or "recipe/NAME". Checkpoints of full size cost megabytes that way.
// Standard output says what plan says of the engines, on the devices named in
// hardware or on all. mix names the engine for which units have formats of
// their own.
func hollow(dir, what, out, hardware, mix string) error {
	c, err := safetensors.OpenDir(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	scheme, rest, _ := strings.Cut(what, "/")
	format, rest, _ := strings.Cut(rest, "/")
	mtp, more, _ := strings.Cut(rest, "/")
	o := quant.Options{MTP: layout.MTPMode(mtp)}
	if err := addOptions(&o, dir, more); err != nil {
		return err
	}
	var p *quant.Plan
	if scheme == "recipe" {
		p, err = recipePlan(c, format)
	} else {
		p, err = quant.NewPlan(c, quant.Scheme(scheme), quant.Format(format), o)
	}
	if err == nil && mix != "" {
		p, err = mixed(p, c, mix)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	for _, f := range p.Files {
		if err := writeHollow(filepath.Join(out, f.Plan.Name), f.Plan); err != nil {
			return err
		}
	}
	index, err := p.Index()
	if err != nil {
		return err
	}
	files := map[string][]byte{p.IndexName: index}
	for name, text := range p.Configs {
		files[name] = text.Bytes()
	}
	for _, s := range p.Sidecars {
		text, err := os.ReadFile(filepath.Join(dir, s.Name))
		if err != nil {
			return fmt.Errorf("a file beside the weights: %w", err)
		}
		files[s.Name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(out, name), text, 0o666); err != nil {
			return err
		}
	}
	rows := p.Engines()
	if hardware != "" {
		rows = nil
		for id := range strings.SplitSeq(hardware, ",") {
			d, err := engine.FindDevice(id)
			if err != nil {
				return err
			}
			rows = append(rows, p.EnginesFor(engine.Query{Hardware: &d})...)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(rows)
}

func writeHollow(name string, plan *safetensors.FilePlan) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(plan.Header())
	return errors.Join(err, f.Truncate(plan.Size), f.Close())
}
