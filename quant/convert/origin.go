package convert

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/source"
)

// OriginFile is the file of the state folder that says which commit of a remote
// source an unfinished result is made from.
const OriginFile = "source"

// Origin is the content of OriginFile.
type Origin struct {
	URI string `json:"uri"` // with the commit
}

// checksPrefix begins the names of files that say how the source was checked.
const checksPrefix = "source-"

// checks says how one run checked what it read.
type checks struct {
	Shards []string          `json:"shards"` // of the result, that the run wrote
	Files  map[string]string `json:"files"`  // of the source, that they are made from
}

// The ways in which a file of a remote source was held against its listing.
const checkedBySize = "size+etag"

// bindOrigin ties the directory to the commit that is read, if there is one.
func (c *converter) bindOrigin() error {
	m := source.Find(c.src.Dir())
	if m == nil {
		return nil
	}
	if _, immutable := m.Source().Pinned(); !immutable {
		return nil
	}
	name := m.Source().Name()
	b, err := c.fs.ReadFile(c.state(OriginFile))
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = json.Marshal(Origin{name}); err != nil {
			return err
		}
		return fsx.WriteFile(c.fs, c.state(OriginFile), b)
	}
	var was Origin
	if err != nil || json.Unmarshal(b, &was) != nil || was.URI == name {
		return err
	}
	return fail(ErrDestination, "resume from the commit it was begun with, or choose another directory", "%s was begun from %s, not from %s", c.dst, was.URI, name)
}

// keepChecks notes how this run checked the files that its shards are made from,
// for the part that completes the result.
func (c *converter) keepChecks(m *source.Folder) error {
	if len(c.wrote) == 0 {
		return nil
	}
	k := checks{Shards: slices.Sorted(slices.Values(c.wrote)), Files: map[string]string{}}
	for i := range c.plan.Files {
		f := &c.plan.Files[i]
		if !slices.Contains(k.Shards, f.Plan.Name) {
			continue
		}
		list, err := c.sourceFiles(f, c.opened)
		if err != nil {
			return err
		}
		for _, s := range list {
			k.Files[s.Name] = m.Checked(s.Name)
		}
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	return fsx.WriteFile(c.fs, c.state(checksPrefix+hex.EncodeToString(id[:])+".json"), b)
}

// origin describes a remote source for the manifest; nil for a folder.
func (c *converter) origin(ctx context.Context) (*quant.ManifestSource, error) {
	m := source.Find(c.src.Dir())
	if m == nil {
		return nil, nil
	}
	list, err := m.Source().List(ctx)
	if err != nil {
		return nil, err
	}
	held, err := c.checked()
	if err != nil {
		return nil, err
	}
	out := &quant.ManifestSource{URI: m.Source().Name()}
	if id, immutable := m.Source().Pinned(); immutable {
		out.Commit, out.Pinned = id, true
	}
	for _, e := range list {
		how, used := held[e.Name]
		if !used {
			if !slices.ContainsFunc(c.plan.Sidecars, func(s quant.Sidecar) bool { return s.Name == e.Name }) && e.Name != "config.json" {
				continue
			}
			how = m.Checked(e.Name)
		}
		out.Files = append(out.Files, quant.SourceFile{Name: e.Name, Size: e.Size, SHA256: e.SHA256, Version: e.Version, Check: how})
	}
	return out, nil
}

// checked collects how the shards of the source were checked: the weakest check
// that any run made of a file. What a run that was killed read is known by its
// size and version only.
func (c *converter) checked() (map[string]string, error) {
	entries, err := c.fs.ReadDir(c.state(""))
	if err != nil {
		return nil, err
	}
	covered, held := map[string]bool{}, map[string]string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), checksPrefix) || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		b, err := c.fs.ReadFile(c.state(e.Name()))
		if err != nil {
			return nil, err
		}
		var k checks
		if json.Unmarshal(b, &k) != nil {
			continue // its shards count as not covered
		}
		for _, s := range k.Shards {
			covered[s] = true
		}
		for name, how := range k.Files {
			if was, ok := held[name]; !ok || was != checkedBySize {
				held[name] = cmp.Or(how, checkedBySize)
			}
		}
	}
	for i := range c.plan.Files {
		f := &c.plan.Files[i]
		list, err := c.sourceFiles(f, c.opened)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			if !covered[f.Plan.Name] {
				held[s.Name] = checkedBySize
			}
		}
	}
	return held, nil
}
