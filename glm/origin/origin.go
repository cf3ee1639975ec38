package origin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// Kind is a stable name of what was found.
type Kind string

// The kinds.
const (
	ForeignNames Kind = "foreign-names"      // tensors under another library's names
	Adapter      Kind = "adapter"            // a LoRA adapter beside or instead of a model
	Pickle       Kind = "pickle"             // pytorch_model.bin and the like, no safetensors
	LFSPointer   Kind = "lfs-pointer"        // a file of Git LFS was not fetched
	Leftover     Kind = "download-leftover"  // a downloader's control or part file
	BesideFolder Kind = "beside-folder"      // a listed file lies beside the folder
	Elsewhere    Kind = "elsewhere"          // a listed file is here unfinished, misspelt or in a folder
	MTPAbsent    Kind = "mtp-absent"         // declared and not stored
	MTPShape     Kind = "mtp-shape"          // stored for a model of other sizes
	LayerCount   Kind = "layer-count"        // num_hidden_layers is not what is stored
	ExpertCount  Kind = "expert-count"       // n_routed_experts is not what is stored
	Vocabulary   Kind = "vocabulary"         // vocab_size is not what is stored
	StaleCopies  Kind = "stale-copies"       // the MTP layer's copies are of another vocabulary
	StaleConfig  Kind = "stale-quantization" // a quantization_config of full-precision weights
	LeftScales   Kind = "left-scales"        // scales beside weights in full precision
	TwoRopeBases Kind = "two-rope-bases"     // rope_theta twice, with two values
	OtherModel   Kind = "other-model"        // config.json is of another family than the tensors
	ConfigSize   Kind = "config-size"        // config.json is of a model of another size
	ConfigKey    Kind = "config-key"         // a switch or count in config.json that all tensors belie
	Indexers     Kind = "indexers"           // config.json and tensors differ in which layers have an indexer
	MTPCount     Kind = "mtp-count"          // more MTP layers declared than stored
)

// Finding is one thing that was found. It is an error, so that a command can
// return it: bad input, trying again never helps.
type Finding struct {
	Kind   Kind
	Where  string // file, tensor or key of config.json
	Detail string // what is there and where it comes from
	Way    string // what the user can do
	Blocks bool   // the folder cannot be converted or run as it is
}

// Error returns one line: where and what.
func (f *Finding) Error() string { return f.Where + ": " + f.Detail }

// Hint says what the user can do.
func (f *Finding) Hint() string { return f.Way }

// Subject is what Of judges.
type Subject struct {
	Dir     string
	Files   []string                   // names of the files at the top
	Config  *glm.Config                // nil if config.json is missing or not understood
	Keys    map[string]json.RawMessage // config.json's top level
	Tensors []safetensors.Info
	Listed  map[string]bool // files that the index names and that are not there
	Damaged bool            // a file could not be read: Tensors are not all
}

// finder collects findings.
type finder struct {
	*Subject
	out []Finding
}

func (f *finder) add(k Kind, blocks bool, where, way, format string, args ...any) {
	f.out = append(f.out, Finding{Kind: k, Where: where, Detail: fmt.Sprintf(format, args...), Way: way, Blocks: blocks})
}

// Of returns what is to be said of a folder, blocking findings first.
func Of(s *Subject) []Finding {
	f := &finder{Subject: s}
	if f.files(); !f.adapterAlone() {
		if s.Config == nil || s.damaged() || !f.otherModel() {
			f.names()
		}
		f.shapes()
	}
	slices.SortStableFunc(f.out, func(a, b Finding) int { return order(a) - order(b) })
	return f.out
}

// OfConfig compares config.json with names, shapes and dtypes of tensors and
// looks at nothing else.
func OfConfig(s *Subject) []Finding {
	f := &finder{Subject: s}
	f.shapes()
	return f.out
}

// damaged tells whether tensors are out of reach.
func (s *Subject) damaged() bool { return s.Damaged || len(s.Listed) > 0 }

// adapterAlone tells whether the folder holds an adapter in place of a model.
func (f *finder) adapterAlone() bool {
	return slices.ContainsFunc(f.out, func(x Finding) bool { return x.Kind == Adapter && x.Blocks })
}

func (f *finder) shapes() {
	if f.Config == nil {
		return
	}
	if !f.renamed() && !f.sizes() {
		f.layers()
		f.vocabulary()
		if !f.damaged() {
			f.indexers()
			if !slices.ContainsFunc(f.out, func(x Finding) bool { return x.Kind == LayerCount || x.Kind == ForeignNames }) {
				f.keys()
			}
		}
	}
	f.config()
}

// renamed tells whether nothing is to be found under the names looked for.
func (f *finder) renamed() bool {
	return slices.ContainsFunc(f.out, func(x Finding) bool { return x.Kind == ForeignNames || x.Kind == OtherModel })
}

func order(f Finding) int {
	if f.Blocks {
		return 0
	}
	return 1
}

// maxConfig bounds config.json; Look reads no more of it.
const maxConfig = 16 << 20

// Look reads names, config.json and headers of a folder. The error says that
// the folder cannot be listed.
func Look(dir string) ([]Finding, error) {
	entries, err := fsx.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Subject{Dir: dir, Listed: map[string]bool{}}
	for _, e := range entries {
		if !e.IsDir() {
			s.Files = append(s.Files, e.Name())
		}
	}
	if ckpt, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true}); err == nil {
		s.Tensors = ckpt.Tensors()
		s.Listed, s.Damaged = Missing(ckpt), Damaged(ckpt)
		_ = ckpt.Close()
	}
	if raw, err := fsx.ReadIn(dir, "config.json", maxConfig); err == nil {
		_ = json.Unmarshal(raw, &s.Keys)
		if cfg, err := glm.LoadConfigOf(dir, s.Tensors); err == nil {
			s.Config = cfg
		}
	}
	return Of(s), nil
}

// Missing returns the files that a checkpoint's index names and that are not
// in its folder.
func Missing(c *safetensors.Checkpoint) map[string]bool {
	out := map[string]bool{}
	for _, p := range c.Problems() {
		var e *safetensors.Error
		if p.Kind == safetensors.ProblemError && errors.As(p.Err, &e) && e.Kind == safetensors.ErrNotFound {
			out[p.File] = true
		}
	}
	return out
}

// Damaged tells whether a weight file of a checkpoint could not be read.
func Damaged(c *safetensors.Checkpoint) bool {
	return slices.ContainsFunc(c.Problems(), func(p safetensors.Problem) bool {
		var e *safetensors.Error
		return p.Kind == safetensors.ProblemError && strings.HasSuffix(p.File, ".safetensors") &&
			!(errors.As(p.Err, &e) && e.Kind == safetensors.ErrDuplicate)
	})
}

// Explain returns err, or the finding that explains why dir could not be read.
func Explain(dir string, err error) error {
	findings, lerr := Look(dir)
	if lerr != nil {
		return err
	}
	for i := range findings {
		if findings[i].Blocks {
			return &findings[i]
		}
	}
	return err
}

// unnoticed are the blocking kinds that a reader may not notice by itself: it
// would compute something else than the model.
var unnoticed = []Kind{LayerCount, ExpertCount, Vocabulary, StaleConfig, LeftScales, MTPCount}

// Refuse returns the first of the findings that a reader must not go on with,
// nil if there is none: what the reader would not notice by itself.
func Refuse(found []Finding) error {
	for i := range found {
		if found[i].Blocks && slices.Contains(unnoticed, found[i].Kind) {
			return &found[i]
		}
	}
	return nil
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
