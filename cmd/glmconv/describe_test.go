package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var schemaName = regexp.MustCompile(`"(glmconv\.[a-z-]+/\d+)"`)

// TestEveryResultIsDescribed: every name of a schema in the code is in the list of
// results, and the list has no other.
func TestEveryResultIsDescribed(t *testing.T) {
	named := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "testdata" || d.Name() == "internal" || d.Name() == "interop") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || d.Name() == "describe.go" {
			return nil
		}
		src, err := os.ReadFile(name)
		for _, m := range schemaName.FindAllSubmatch(src, -1) {
			named[string(m[1])] = true
		}
		return err
	}))
	require.Greater(t, len(named), 10)
	listed := map[string]bool{}
	for _, r := range results {
		listed[r.schema] = true
	}
	assert.Equal(t, named, listed)
}

// TestSchemasHold: the schemas compile, and a result keeps to its own.
func TestSchemasHold(t *testing.T) {
	for _, r := range results {
		raw, err := resultSchema(r.schema, r.value)
		require.NoError(t, err)
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		require.NoError(t, c.AddResource("it.json", doc))
		s, err := c.Compile("it.json")
		require.NoError(t, err, r.schema)
		if r.schema == "glmconv.version/1" {
			b, err := json.Marshal(currentBuild())
			require.NoError(t, err)
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
			require.NoError(t, err)
			assert.NoError(t, s.Validate(v))
			v.(map[string]any)["schema"] = "glmconv.version/2"
			assert.Error(t, s.Validate(v))
		}
	}
}

func TestDescribe(t *testing.T) {
	var out strings.Builder
	app := newApp(io.Discard, io.Discard)
	require.NoError(t, describe(&out, app))
	var d struct {
		Commands []commandText
		Codes    []explanation
	}
	require.NoError(t, json.Unmarshal([]byte(out.String()), &d))
	require.Len(t, d.Commands, len(app.Commands))
	for i, c := range app.Commands {
		assert.Equal(t, c.Name, d.Commands[i].Name)
		assert.Len(t, c.Flags, len(d.Commands[i].Flags)+len(d.Commands[i].Common))
	}
	assert.Greater(t, len(d.Codes), 100)
}
