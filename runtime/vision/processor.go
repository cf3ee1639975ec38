package vision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
)

// Settings are one of the two preprocessor files.
type Settings struct {
	MinPixels, MaxPixels   int64 // size.shortest_edge, size.longest_edge: volumes, frames × height × width
	Patch, Temporal, Merge int
	Mean, Std              [3]float64
	Rescale                float64 // rescale_factor
	Resize                 bool
	FPS                    float64 // video: wanted frames per second
	MaxDuration            float64 // video: seconds looked at
}

// maxVolume bounds frames × height × width; the published limits are below 2^26.
const maxVolume = 1 << 27

// Processor prepares media for a checkpoint.
type Processor struct {
	Image, Video Settings
	// V46 selects GLM-4.6V's frame sampling and timestamps ("3.0 seconds")
	// instead of GLM-4.5V's ("3").
	V46 bool
}

// raw is a preprocessor file.
type raw struct {
	Size struct {
		Shortest *float64 `json:"shortest_edge"`
		Longest  *float64 `json:"longest_edge"`
	} `json:"size"`
	Patch     *int      `json:"patch_size"`
	Temporal  *int      `json:"temporal_patch_size"`
	Merge     *int      `json:"merge_size"`
	Mean      []float64 `json:"image_mean"`
	Std       []float64 `json:"image_std"`
	Rescale   *float64  `json:"rescale_factor"`
	DoRescale *bool     `json:"do_rescale"`
	DoResize  *bool     `json:"do_resize"`
	DoNorm    *bool     `json:"do_normalize"`
	Resample  *int      `json:"resample"`
	FPS       *float64  `json:"fps"`
	Max       *float64  `json:"max_duration"`
	Class     string    `json:"processor_class"`
	ImageType string    `json:"image_processor_type"`
	VideoType string    `json:"video_processor_type"`
}

// Load reads the preprocessor files of a checkpoint directory. Absent files
// mean the reference's defaults; patch sizes must agree with config.json.
func Load(dir string, cfg *glm.Config) (*Processor, error) {
	if cfg.Vision == nil {
		return nil, errors.New("the checkpoint has no vision tower: it cannot look at pictures")
	}
	p := &Processor{Image: defaults(cfg, 11_760_000), Video: defaults(cfg, 47_040_000)}
	p.Image.FPS = 0
	for _, f := range []struct {
		name string
		to   *Settings
	}{{"preprocessor_config.json", &p.Image}, {"video_preprocessor_config.json", &p.Video}} {
		r, err := readRaw(dir, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.to.apply(r, cfg.Vision)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, f.name), err)
		}
		p.V46 = p.V46 || strings.HasPrefix(r.Class+" "+r.ImageType+" "+r.VideoType, "Glm46V") || strings.Contains(r.VideoType, "Glm46V") ||
			strings.Contains(r.ImageType, "Glm46V")
	}
	return p, nil
}

func readRaw(dir, name string) (*raw, error) {
	data, err := fsx.ReadIn(dir, name, 16<<20)
	if err != nil {
		return nil, err
	}
	r := &raw{}
	return r, json.Unmarshal(data, r)
}

func defaults(cfg *glm.Config, maxPixels int64) Settings {
	v := cfg.Vision
	return Settings{
		MinPixels: 112 * 112, MaxPixels: maxPixels, Patch: v.PatchSize, Temporal: v.TemporalPatch, Merge: v.MergeSize,
		Mean: [3]float64{0.48145466, 0.4578275, 0.40821073}, Std: [3]float64{0.26862954, 0.26130258, 0.27577711},
		Rescale: 1.0 / 255, Resize: true, FPS: 2, MaxDuration: 300,
	}
}

func (s *Settings) apply(r *raw, v *glm.VisionConfig) error {
	for _, x := range []struct {
		name string
		got  *int
		want int
	}{{"patch_size", r.Patch, v.PatchSize}, {"temporal_patch_size", r.Temporal, v.TemporalPatch}, {"merge_size", r.Merge, v.MergeSize}} {
		if x.got != nil && *x.got != x.want {
			return fmt.Errorf("%s is %d, config.json has %d", x.name, *x.got, x.want)
		}
	}
	if r.Resample != nil && *r.Resample != 3 {
		return fmt.Errorf("resample is %d; only 3, bicubic, is implemented", *r.Resample)
	}
	if x := r.Size.Shortest; x != nil {
		s.MinPixels = int64(*x)
	}
	if x := r.Size.Longest; x != nil {
		s.MaxPixels = int64(*x)
	}
	if s.MinPixels < 1 || s.MaxPixels < s.MinPixels || s.MaxPixels > maxVolume {
		return fmt.Errorf("size %d … %d pixels is not a usable range", s.MinPixels, s.MaxPixels)
	}
	if r.Mean != nil && copy(s.Mean[:], r.Mean) != 3 || r.Std != nil && copy(s.Std[:], r.Std) != 3 {
		return errors.New("image_mean and image_std need three numbers each")
	}
	if r.Rescale != nil {
		s.Rescale = *r.Rescale
	}
	if r.DoRescale != nil && !*r.DoRescale {
		s.Rescale = 1
	}
	if r.DoNorm != nil && !*r.DoNorm {
		s.Mean, s.Std = [3]float64{}, [3]float64{1, 1, 1}
	}
	for _, d := range s.Std {
		if d == 0 {
			return errors.New("image_std is zero")
		}
	}
	if s.Rescale == 0 {
		return errors.New("rescale_factor is zero")
	}
	if r.DoResize != nil {
		s.Resize = *r.DoResize
	}
	if r.FPS != nil && *r.FPS > 0 {
		s.FPS = *r.FPS
	}
	if r.Max != nil && *r.Max > 0 {
		s.MaxDuration = *r.Max
	}
	if s.FPS > 1000 || s.MaxDuration > 1e5 {
		return fmt.Errorf("fps %g for %g seconds is not a usable sampling of a clip", s.FPS, s.MaxDuration)
	}
	return nil
}
