package reach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// Cached returns the folder of the hub's own client that holds what an address
// names, its commit, and whether the address is to be read from there: hf-cache://
// always, hf:// without a network, unless Options.Cache alone has read it before.
// Nothing is written there and no network is asked. What is not there, or not all of
// it, is an error that matches source.ErrOffline.
func Cached(text string, o Options) (dir, commit string, ok bool, err error) {
	if err := o.defaults(); err != nil {
		return "", "", false, err
	}
	dir, commit, ok, err = o.ofHub(text)
	if errors.Is(err, source.ErrOffline) {
		if a, bad := parse(text, o.hubBase()); bad == nil && a.scheme == "hf" && o.keptListing(a) != nil {
			return "", "", false, nil
		}
	}
	return dir, commit, ok, err
}

// ofHub is Cached but for Options.Cache.
func (o *Options) ofHub(text string) (dir, commit string, ok bool, err error) {
	a, err := parse(text, o.hubBase())
	if err != nil || a.scheme != "hf-cache" && !(a.scheme == "hf" && o.Offline) {
		return "", "", false, err
	}
	root := o.cacheRoot()
	repository := filepath.Join(root, "models--"+strings.ReplaceAll(a.id, "/", "--"))
	lacks := func(format string, args ...any) error {
		return &source.Error{Kind: source.ErrOffline, Where: text, Reason: fmt.Sprintf(format, args...), Advice: "with a network: hf download " + a.id}
	}
	rev := a.rev
	if rev == "" {
		rev = "main"
	}
	if commit = rev; !commitID().MatchString(rev) {
		if !filepath.IsLocal(rev) {
			return "", "", true, badAddress(text, "has a revision that is no name")
		}
		raw, err := fsx.ReadRegular(filepath.Join(repository, "refs", filepath.FromSlash(rev)), 1<<10)
		if errors.Is(err, fs.ErrNotExist) {
			return "", "", true, lacks("is not in the hub's cache (%s) at revision %s", root, rev)
		}
		if err != nil {
			return "", "", true, err
		}
		if commit = strings.TrimSpace(string(raw)); !commitID().MatchString(commit) {
			return "", "", true, &source.Error{Kind: source.ErrRefused, Where: text, Reason: "the cache names no commit for revision " + rev}
		}
	}
	dir = filepath.Join(repository, "snapshots", commit, filepath.FromSlash(a.sub))
	if !fsx.IsDir(dir) {
		return "", "", true, lacks("is not in the hub's cache (%s) at commit %s", root, commit)
	}
	missing, err := missingShards(dir)
	if err == nil && len(missing) > 0 {
		err = lacks("is in the hub's cache in part: %d files are missing, the first is %s", len(missing), missing[0])
	}
	return dir, commit, true, err
}

// missingShards lists the shards that the index of a folder names and that are not
// there: a snapshot holds what somebody asked for.
func missingShards(dir string) (missing []string, err error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), ".safetensors.index.json") {
			continue
		}
		raw, err := fsx.ReadIn(dir, e.Name(), maxIndex)
		if err != nil {
			return nil, err
		}
		var index struct {
			Files map[string]string `json:"weight_map"`
		}
		if json.Unmarshal(raw, &index) != nil {
			continue // whoever opens it says so
		}
		shards := map[string]bool{}
		for _, name := range index.Files {
			shards[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(shards)) {
			if _, err := os.Stat(filepath.Join(dir, name)); flat(name) && errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, name)
			}
		}
	}
	return missing, nil
}

// cacheRoot is the folder of the hub's own client in which repositories lie.
func (o *Options) cacheRoot() string {
	root := o.first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
	if root == "" {
		return filepath.Join(o.hubHome(), "hub")
	}
	if rest, ok := strings.CutPrefix(root, "~"); ok && (rest == "" || rest[0] == '/') {
		root = o.Getenv("HOME") + rest
	}
	return os.Expand(root, o.Getenv)
}
