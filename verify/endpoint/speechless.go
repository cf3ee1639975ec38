package endpoint

import (
	"context"
	"errors"
	"math"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/verify"
)

// numberless reports whether the runtime computes NaN from the folder.
func (v *verifying) numberless() bool { return math.IsNaN(v.r.Floor.KL + v.r.Floor.NLL) }

// speechless concludes where the runtime has no figures of the folder, because of
// err or because they are no numbers: servers are not asked, and the file is
// judged alone. It returns err where the file is not what is wrong.
func (v *verifying) speechless(ctx context.Context, err error) error {
	if err != nil && (v.original == "" || !runtime.Uncomputable(err)) {
		return err
	}
	line := "the runtime computes no numbers (NaN) from this folder: glmconv check --weights looks for damaged tensors and scales"
	if err != nil {
		line = "the runtime does not compute this folder: " + err.Error()
	}
	v.r.Floor = Floor{}
	for i := range v.r.Servers {
		s := &v.r.Servers[i]
		s.Checks = append(s.Checks, Check{"kl", undecided, line})
	}
	v.undecided(line)
	if wrong := v.files(ctx); wrong != nil {
		return wrong
	}
	v.whose(false)
	if v.r.Verdict != verify.Fail {
		return err
	}
	v.r.Cause = line + "; no server was compared. The file is wrong: " + orUnknown(v.r.File.Cause)
	return nil
}

// files compares the two folders.
func (v *verifying) files(ctx context.Context) error {
	if v.original == "" {
		return nil
	}
	r, err := verify.Compare(ctx, v.original, v.dir, v.o.Verify)
	var bad *verify.Error
	if errors.As(err, &bad) {
		v.r.File = &FileVerdict{Verdict: verify.Fail, Cause: bad.Error(), Failed: []verify.Failed{{Check: "input", Where: bad.Where, Detail: bad.Reason}}}
		return nil
	}
	if err != nil {
		return err
	}
	v.r.Compared = r
	v.r.File = &FileVerdict{Verdict: r.Verdict, Cause: r.Cause, Failed: r.Failed, MeanKL: r.KL.Mean}
	return nil
}
