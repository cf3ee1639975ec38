package synth

import (
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// MTPState says how the multi-token-prediction layer is stored.
type MTPState string

// The states.
const (
	MTPAsPublished MTPState = ""       // as the preset's release does; plain for a given config
	MTPCopies      MTPState = "copies" // with copies of embedding and head
	MTPPlain       MTPState = "plain"  // without them
	MTPNone        MTPState = "none"   // no such layer, and config.json says so
)

// MTPPlace says in which file the MTP layer lies.
type MTPPlace string

// The places.
const (
	PlaceAsPublished MTPPlace = ""         // as the preset's release does; in the shards for a given config
	PlaceShards      MTPPlace = "shards"   // among the other tensors
	PlaceListed      MTPPlace = "listed"   // in mtp.safetensors, which the index lists
	PlaceUnlisted    MTPPlace = "unlisted" // in mtp.safetensors, which the index forgets
)

// Options says what to write. Give a Preset or a Config.
type Options struct {
	Preset string // a name of glm.Presets
	Config []byte // config.json, instead of a preset

	// What to keep of the model; 0 keeps all. The dense layers come first in
	// every GLM, so that the fewer layers are kept, the denser the model gets.
	Layers  int // decoder layers, MTP layer not counted
	Experts int // routed experts of a layer
	Vocab   int // rows of embedding and head; token ids of config.json are moved below it

	MTP      MTPState
	MTPPlace MTPPlace

	Fused    bool // experts stacked as transformers 5 saves them
	V5Config bool // config.json in the naming of transformers 5

	DType      safetensors.DType // BF16 (also the zero value), F16 or F32; router biases are always F32
	ShardBytes int64             // largest data of a shard; 0 means 4 GiB
	Sparse     bool              // no data: files with holes
	Seed       uint64
	Workers    int // goroutines that make random numbers; 0 means GOMAXPROCS
}

// resolve fills in what depends on the preset.
func (o Options) resolve() (Options, error) {
	if (o.Preset == "") == (len(o.Config) == 0) {
		return o, fmt.Errorf("synth: give a preset or a config, one of the two")
	}
	mtp, place := MTPPlain, PlaceShards
	if o.Preset != "" {
		p, err := glm.LookupPreset(o.Preset)
		if err != nil {
			return o, fmt.Errorf("synth: %w", err)
		}
		o.Config = p.JSON
		if p.MTPCopies {
			mtp = MTPCopies
		}
		if p.MTPFile {
			place = PlaceListed
		}
	}
	if o.MTP == MTPAsPublished {
		o.MTP = mtp
	}
	if o.MTPPlace == PlaceAsPublished {
		o.MTPPlace = place
	}
	switch o.MTP {
	case MTPCopies, MTPPlain, MTPNone:
	default:
		return o, fmt.Errorf("synth: unknown MTP state %q", o.MTP)
	}
	switch o.MTPPlace {
	case PlaceShards, PlaceListed, PlaceUnlisted:
	default:
		return o, fmt.Errorf("synth: unknown place %q of the MTP layer", o.MTPPlace)
	}
	switch o.DType {
	case safetensors.Invalid:
		o.DType = safetensors.BF16
	case safetensors.BF16, safetensors.F16, safetensors.F32:
	default:
		return o, fmt.Errorf("synth: weights of dtype %s cannot be made, only BF16, F16 and F32", o.DType)
	}
	if o.ShardBytes == 0 {
		o.ShardBytes = 4 << 30
	}
	if o.ShardBytes < 0 || o.Layers < 0 || o.Experts < 0 || o.Vocab < 0 || o.Workers < 0 {
		return o, fmt.Errorf("synth: sizes and counts cannot be negative")
	}
	return o, nil
}
