package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/recipe"
)

// recipes writes the argument lists that recipe prints for an engine, each once,
// as JSON arrays, one a line: every preset as it is published and in what it
// is quantized to, every device of the tables, one server and several, every goal;
// of these every step-th, with one scheme a preset.
func recipes(name string, step int, w io.Writer) error {
	release, err := engine.Find(name)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	seen := map[string]bool{}
	asked := 0
	schemes := []string{"", "w8a8", "fp8", "w4a16"}
	for i, preset := range glm.Presets() {
		for j, scheme := range schemes {
			if step > 1 && j != i%len(schemes) {
				continue // planning takes longer than the questions
			}
			m, err := recipe.Published(preset, scheme, "")
			if err != nil {
				continue // the family has no such result
			}
			for _, q := range recipeQueries(m, release) {
				if asked++; asked%max(step, 1) != 0 {
					continue
				}
				r, err := recipe.Decide(q)
				if err != nil {
					return err
				}
				for _, n := range r.Nodes {
					key := strings.Join(n.Argv, "\x00")
					if seen[key] {
						continue
					}
					seen[key] = true
					if err := enc.Encode(n.Argv); err != nil {
						return err
					}
				}
			}
		}
	}
	if len(seen) == 0 {
		return errors.New("no recipe fits")
	}
	return nil
}

func recipeQueries(m *recipe.Model, r engine.Release) (out []recipe.Query) {
	for _, id := range engine.Devices() {
		for _, size := range []string{"4", "8", "16", "8x2"} {
			hw, err := recipe.ParseHardware(id + ":" + size)
			if err != nil {
				continue // the tables have no memory of the device
			}
			for _, goal := range recipe.Goals {
				q := recipe.Query{Model: m, Release: r, Hardware: hw, Goal: goal, MTP: recipe.AutoMTP, NoNearest: true}
				out = append(out, q)
				if size == "8" || size == "16" {
					q.Topology, q.Prefill, q.Decode = "pd", recipe.Group{Nodes: 1, Devices: hw.Devices}, recipe.Group{Nodes: 2, Devices: hw.Devices}
					out = append(out, q)
				}
			}
		}
	}
	return out
}
