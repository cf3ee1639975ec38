package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"glmconv": main})
}

// TestScripts runs the command-line stories in testdata/*.txtar. [shared]
// holds where the reference checkpoints are; $SHARED names their folder.
func TestScripts(t *testing.T) {
	shared := testkit.Beside("shared")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SHARED", shared)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "shared" {
				_, err := os.Stat(shared)
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": cmdCode, "patch": cmdPatch,
			"replace": cmdReplace, "sameverdict": cmdSameVerdict, "rename": cmdRename, "truncate": cmdTruncate, "extract": cmdExtract, "synth": cmdSynth, "swap": cmdSwap},
	})
}

func TestPermute(t *testing.T) {
	app := newApp(&bytes.Buffer{}, &bytes.Buffer{})
	for _, c := range []struct{ in, want []string }{
		{[]string{"glmconv"}, []string{"glmconv"}},
		{[]string{"glmconv", "version", "--json"}, []string{"glmconv", "version", "--json", "--"}},
		{[]string{"glmconv", "version", "a", "--json", "b", "--progress", "none"}, []string{"glmconv", "version", "--json", "--progress", "none", "--", "a", "b"}},
		{[]string{"glmconv", "version", "a", "--progress=none", "--", "--json"}, []string{"glmconv", "version", "--progress=none", "--", "a", "--json"}},
		{[]string{"glmconv", "nonsense", "--x"}, []string{"glmconv", "nonsense", "--x"}},
	} {
		assert.Equal(t, c.want, permute(app, c.in))
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitOK:          nil,
		exitUsage:       usagef("no"),
		exitInterrupted: fmt.Errorf("convert: %w", context.Canceled),
		exitTemporary:   fmt.Errorf("dst: %w", fsx.ErrLocked),
		exitIO:          fmt.Errorf("write: %w", syscall.ENOSPC),
		exitBadInput:    errors.New("header of x is not JSON"),
	} {
		var out bytes.Buffer
		assert.Equal(t, want, report(&out, err), "%v", err)
		assert.Equal(t, err != nil, out.Len() > 0)
	}
}

func TestUnknownCommand(t *testing.T) {
	var out, errOut bytes.Buffer
	code := run(context.Background(), []string{"glmconv", "inspekt"}, &out, &errOut)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errOut.String(), `unknown command "inspekt"`)
	assert.Contains(t, errOut.String(), "inspect")
	assert.NotContains(t, errOut.String(), "panic")
}
