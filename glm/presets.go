package glm

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.json
var presetFiles embed.FS

// PresetInfo is a published checkpoint: its config.json and how its MTP layer
// is stored, which the config does not tell (docs/facts/families.md 5.3).
type PresetInfo struct {
	Name      string // as in "glm-4.5-air"
	JSON      []byte // config.json
	MTPCopies bool   // the MTP layer has its own embed_tokens and shared_head.head
	MTPFile   bool   // the MTP layer lies in mtp.safetensors
}

var presets = []PresetInfo{
	{Name: "glm-4.5", MTPCopies: true},
	{Name: "glm-4.5-air", MTPCopies: true},
	{Name: "glm-4.5v"},
	{Name: "glm-4.6", MTPFile: true},
	{Name: "glm-4.6v"},
	{Name: "glm-4.7", MTPFile: true},
	{Name: "glm-4.7-flash", MTPCopies: true},
	{Name: "glm-5"},
	{Name: "glm-5.1"},
	{Name: "glm-5.2"},
	{Name: "glm-5.3"}, // the tensors of 5.2; its default repository is block FP8 (docs/facts/formats.md 1.1)
}

// Presets returns the names of the published checkpoints known here, sorted.
func Presets() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Name
	}
	return names
}

// LookupPreset returns a published checkpoint by name. The values are those
// of docs/facts/families.md 1; fields that no loader reads may differ from
// the published file.
func LookupPreset(name string) (PresetInfo, error) {
	for _, p := range presets {
		if p.Name == name {
			data, err := presetFiles.ReadFile("presets/" + name + ".json")
			if err != nil {
				return PresetInfo{}, fmt.Errorf("glm: preset %s: %w", name, err)
			}
			p.JSON = data
			return p, nil
		}
	}
	return PresetInfo{}, fmt.Errorf("glm: no preset %q (known: %s)", name, strings.Join(Presets(), ", "))
}

// Preset returns the parsed config of a published checkpoint.
func Preset(name string) (*Config, error) {
	p, err := LookupPreset(name)
	if err != nil {
		return nil, err
	}
	return ParseConfig(p.JSON)
}
