package check

import (
	"context"
	"runtime"

	"github.com/glmconv/glmconv/safetensors"
)

// Options say how thorough to be. The zero value is the default.
type Options struct {
	Engines  []string // engines to ask: "vllm", "sglang@0.5.23", "vllm-ascend"; empty: the newest releases of all that know the layout
	Hardware string   // a device to ask about: "h100", "ascend-a3"; empty: all that an engine runs on
	NoHashes bool     // do not compare SHA-256 sums with the manifest
	Weights  bool     // read every weight as well: NaN, Inf, int4 codes out of range
	Copies   bool     // compare the MTP layer's copies with the model's own, even if nothing else is read whole
	Workers  int      // goroutines that read; 0: one a core
	// Part and Parts choose whose bytes are hashed: those of the files of part Part
	// (from 1) of Parts; 0 or 1: all. Join puts the reports together.
	Part, Parts int
	// Open, if given, opens the tensors of a folder in place of
	// safetensors.OpenDirOptions with AllErrors: for who has them open already.
	Open func(dir string) (*safetensors.Checkpoint, error)
	// Progress receives the bytes read so far, the bytes to read and what is
	// read: "hashes" or "values". It may be nil; it is called from several
	// goroutines, one at a time.
	Progress func(done, total int64, detail string)
}

// Run examines the checkpoint in dir. The error says that the directory
// could not be examined (it does not exist, a read failed, ctx ended); a bad
// checkpoint is no error but a report with OK false.
func Run(ctx context.Context, dir string, opts Options) (*Report, error) {
	s, err := inspectAll(ctx, dir, opts)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return nil, err
	}
	return s.report, nil
}

// inspectAll runs all checks. The subject is to be closed whatever the error.
func inspectAll(ctx context.Context, dir string, opts Options) (*subject, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	s, err := load(dir, opts)
	if err != nil {
		return s, err
	}
	for _, check := range []func(){
		s.checkOrigin, s.checkFiles, func() { s.checkConfig(ctx) }, s.checkTensors, s.checkSpecial, s.checkDescription,
	} {
		check()
	}
	bytes := newMeter(opts.Progress)
	for _, check := range []struct {
		reads string
		run   func(context.Context, *meter) error
	}{{"files beside the weights", s.checkCompanions}, {"hashes", s.checkManifest}, {"values", s.checkValues}, {"rotation", s.checkRotation}, {"rotation", s.checkRotationFile}, {"caches", s.checkInt8Caches}} {
		bytes.detail = check.reads
		if err := check.run(ctx, bytes); err != nil {
			return s, err
		}
	}
	s.report.Read = bytes.done
	s.dropConsequences()
	s.checkEngines()
	s.dropEchoes()
	s.report.Layout = s.layoutName()
	s.diagnose()
	s.report.finish()
	return s, nil
}
