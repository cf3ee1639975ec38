package main

import (
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/glmconv/glmconv/internal/demo"
)

// cmdCode runs "code N prog args…" and wants exactly that exit code.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := err.(interface{ ExitCode() int }); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdPatch overwrites bytes: "patch FILE OFFSET BYTE…"; a negative offset
// counts from the end.
func cmdPatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: patch file offset byte...")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	if off < 0 {
		off += len(b)
	}
	for i, s := range args[2:] {
		v, err := strconv.ParseUint(s, 0, 8)
		ts.Check(err)
		b[off+i] = byte(v)
	}
	ts.Check(os.WriteFile(path, b, 0o644))
}

// cmdTruncate cuts a file: "truncate FILE BYTES" takes bytes off its end.
func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate file bytes")
	}
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(path, st.Size()-n))
}

// cmdExtract puts the built-in model into a folder.
func cmdExtract(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: extract dir")
	}
	ts.Check(demo.Extract(ts.MkAbs(args[0])))
}
