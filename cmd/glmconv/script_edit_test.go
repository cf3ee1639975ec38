package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdReplace replaces text: "replace FILE OLD NEW", where OLD must occur.
func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace file old new")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(b, []byte(args[1]), []byte(args[2])), 0o644))
}

// cmdRename changes the start of tensor names in all shards and indexes of a
// folder: "rename DIR OLD NEW".
func cmdRename(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: rename dir old new")
	}
	old, want := []byte(`"`+args[1]), []byte(`"`+args[2])
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		path := filepath.Join(ts.MkAbs(args[0]), e.Name())
		b, err := os.ReadFile(path)
		ts.Check(err)
		switch {
		case filepath.Ext(path) == ".safetensors":
			n := binary.LittleEndian.Uint64(b)
			head := bytes.ReplaceAll(b[8:8+n], old, want)
			for len(head)%8 != 0 {
				head = append(head, ' ')
			}
			out := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
			b = append(append(out, head...), b[8+n:]...)
		case filepath.Ext(e.Name()) == ".json" && bytes.Contains(b, []byte(`"weight_map"`)):
			b = bytes.ReplaceAll(b, old, want)
		default:
			continue
		}
		ts.Check(os.WriteFile(path, b, 0o644))
	}
}

// spent are the fields of a verdict that say what the machines spent.
var spent = regexp.MustCompile(`"(peak_rss|seconds|bytes_read)": ?[0-9.e+-]+`)

// cmdSameVerdict compares two files of verify --json byte for byte but for what
// the machines spent: "sameverdict A B".
func cmdSameVerdict(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sameverdict a b")
	}
	var text [2]string
	for i, name := range args {
		b, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		if len(spent.FindAll(b, -1)) != 3 {
			ts.Fatalf("%s is no verdict", name)
		}
		text[i] = spent.ReplaceAllString(string(b), "")
	}
	if text[0] != text[1] {
		ts.Fatalf("%s and %s are different verdicts", args[0], args[1])
	}
}
