package origin

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/lazy"
)

// leftovers are the endings of what downloads leave, and whose they are.
var leftovers = []struct{ end, tool string }{
	{".aria2", "aria2's control file"},
	{".aria2__temp", "aria2's control file"},
	{".incomplete", "an unfinished download of the Hugging Face or ModelScope client"},
	{".crdownload", "an unfinished download of a browser"},
	{".download", "an unfinished download of a browser"},
	{".part", "an unfinished download"},
	{".partial", "an unfinished download"},
	{".downloading", "an unfinished download"},
	{".xltd", "an unfinished download of Xunlei"},
	{".!ut", "an unfinished download of a torrent client"},
	{".!qb", "an unfinished download of a torrent client"},
	{".opdownload", "an unfinished download of a browser"},
	{".filepart", "an unfinished download of WinSCP"},
	{".tmp", "a temporary file"},
	{".temp", "a temporary file"},
}

// leftover tells whether a name is a downloader's, of which file and whose.
func leftover(name string) (of, tool string, ok bool) {
	lower := strings.ToLower(name)
	for _, l := range leftovers {
		if strings.HasSuffix(lower, l.end) && len(name) > len(l.end) {
			return name[:len(name)-len(l.end)], l.tool, true
		}
	}
	if i := strings.Index(lower, ".safetensors."); i > 0 && filepath.Ext(lower) != ".json" && filepath.Ext(lower) != ".safetensors" {
		end := i + len(".safetensors")
		return name[:end], "a renamed or second copy (" + name[end:] + ")", true
	}
	return "", "", false
}

// pickled are the endings of weight files that glmconv does not read.
var pickled = []string{".bin", ".pt", ".pth", ".ckpt", ".gguf", ".msgpack", ".h5", ".npz", ".onnx"}

// isWeights tells whether a name is that of weights in another format.
func isWeights(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	if !slices.Contains(pickled, ext) {
		return false
	}
	for _, p := range []string{"pytorch_model", "model", "consolidated", "adapter_model", "tf_model", "flax_model", "mp_rank", "ggml"} {
		if strings.HasPrefix(strings.ToLower(name), p) {
			return true
		}
	}
	return ext == ".gguf"
}

// IsAdapter tells whether a file holds a LoRA adapter or its configuration. It
// never belongs into an index.
func IsAdapter(name string) bool {
	return strings.HasPrefix(name, "adapter_model") || name == "adapter_config.json"
}

// NotCopied says why a file beside the weights is no part of a model; "" if it
// is: a converted checkpoint takes it along.
func NotCopied(name string) string {
	if of, tool, ok := leftover(name); ok {
		return tool + " for " + of
	}
	switch {
	case IsAdapter(name):
		return "a LoRA adapter, which engines would apply to the converted model once more"
	case isWeights(name), strings.HasPrefix(name, "pytorch_model") && strings.HasSuffix(name, ".index.json"):
		return "weights in another format"
	}
	return ""
}

// files judges names and, of small files, whether they are LFS pointers.
func (f *finder) files() {
	shards := 0
	for _, n := range f.Files {
		if strings.HasSuffix(n, ".safetensors") && !IsAdapter(n) {
			shards++
		}
	}
	f.pickles(shards)
	f.pointers()
	f.beside()
	f.elsewhere()
	f.adapters(shards)
	for _, n := range f.Files {
		of, tool, ok := leftover(n)
		if !ok {
			continue
		}
		if slices.Contains(f.Files, of) {
			f.add(Leftover, false, n, "finish the download or compare "+of+" with the SHA-256 of its hub, then delete "+n+"; reading every weight shows holes",
				"%s for %s: the download was not finished when it was written, and a file of the right size may hold zeros", tool, of)
			continue
		}
		f.add(Leftover, false, n, "finish the download, or delete it if the checkpoint is complete without it", "%s", tool)
	}
}

func (f *finder) pickles(shards int) {
	if shards > 0 {
		return
	}
	var found []string
	for _, n := range f.Files {
		if isWeights(n) && !IsAdapter(n) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return
	}
	slices.Sort(found)
	if strings.EqualFold(filepath.Ext(found[0]), ".gguf") {
		f.add(Pickle, true, found[0], "take the safetensors release", "the folder holds a GGUF file for llama.cpp and no safetensors")
		return
	}
	f.add(Pickle, true, found[0], "take a safetensors release, or save the model again with transformers: save_pretrained(DIR, safe_serialization=True)",
		"the folder holds %s in PyTorch's pickle format and no safetensors; pickles can run code when they are read, and glmconv does not read them", plural(len(found), "file"))
}

const pointerStart = "version https://git-lfs.github.com/spec/"

// IsPointer tells whether a file holds a Git LFS pointer in place of its content.
func IsPointer(raw []byte) bool { return strings.HasPrefix(string(raw), pointerStart) }

// pointers looks for files of a git clone without LFS.
func (f *finder) pointers() {
	var found []string
	for _, n := range f.Files {
		ext := filepath.Ext(n)
		if ext != ".safetensors" && ext != ".json" && ext != ".jinja" && ext != ".model" {
			continue
		}
		raw, err := fsx.ReadIn(f.Dir, n, 1024)
		if err == nil && IsPointer(raw) {
			found = append(found, n)
		}
	}
	if len(found) > 0 {
		f.add(LFSPointer, true, found[0], "run git lfs pull in the folder, or download it with hf or modelscope",
			"a Git LFS pointer, not the file itself: the repository was cloned without LFS (%s)", plural(len(found), "pointer"))
	}
}

// beside looks for files that the index names inside the folder and that
// adjust_weight.py of the vllm-ascend guide wrote beside it: the script joins
// path and name without a slash.
func (f *finder) beside() {
	abs, err := filepath.Abs(f.Dir)
	if err != nil {
		return
	}
	for _, n := range sorted(f.Listed) {
		if st, err := os.Lstat(abs + n); err != nil || !st.Mode().IsRegular() {
			continue
		}
		f.add(BesideFolder, true, n, "glmconv repair "+f.Dir+" makes the file anew inside the folder; or move ../"+filepath.Base(abs)+n+" to "+n,
			"the index names it in the folder, and it lies beside the folder as %s: a script (adjust_weight.py of the vllm-ascend guide) was given the path without a slash at its end",
			filepath.Base(abs)+n)
	}
}

// elsewhere looks for files that the index names and that are in the folder in
// another form: unfinished, under a name of other case, one level down.
func (f *finder) elsewhere() {
	var below []string
	if entries, err := fsx.ReadDir(f.Dir); err == nil && len(f.Listed) > 0 {
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				below = append(below, e.Name())
			}
		}
	}
	for _, n := range sorted(f.Listed) {
		for _, other := range f.Files {
			switch of, tool, ok := leftover(other); {
			case ok && of == n:
				f.add(Elsewhere, true, n, "finish the download of "+n+", or fetch it again", "it is listed, and only %s of it is here, %s", tool, other)
			case browserCopy(other) == n:
				f.add(Elsewhere, true, n, "rename "+other+" to "+n, "it is listed, and the file is called %s here: the name that a browser or a file manager gives to a second copy", other)
			case other == n+filepath.Ext(n), other+filepath.Ext(n) == n:
				f.add(Elsewhere, true, n, "rename "+other+" to "+n, "it is listed, and the file is called %s here: its extension is there twice, or not at all", other)
			case other != n && strings.EqualFold(other, n):
				f.add(Elsewhere, true, n, "rename "+other+" to "+n, "it is listed, and the file is called %s here: names differ in their case", other)
			}
		}
		if st, err := os.Lstat(filepath.Join(f.Dir, modelScopeTemp, n)); err == nil && st.Mode().IsRegular() {
			f.add(Elsewhere, true, n, "finish the download of "+n+", or fetch it again", "it is listed, and only an unfinished download of the ModelScope client of it is here, in the folder %s", modelScopeTemp)
			continue
		}
		for _, dir := range below {
			if st, err := os.Lstat(filepath.Join(f.Dir, dir, n)); err == nil && st.Mode().IsRegular() {
				f.add(Elsewhere, true, n, "move the files of "+dir+" beside config.json", "it is listed beside the index, and it lies in the folder %s", dir)
			}
		}
	}
}

// modelScopeTemp is where ModelScope's client keeps a file until it is whole.
const modelScopeTemp = "._____temp"

// second are the ways in which browsers and file managers name a second copy.
var second = lazy.Regexp(`^(.+?)(?: ?\(\d+\)| - Copy|[ _-]copy|~\d+)(\.[a-z]+)$`)

// browserCopy returns the name that a second copy's is made of, "" for others.
func browserCopy(name string) string {
	m := second().FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

func (f *finder) adapters(shards int) {
	i := slices.IndexFunc(f.Files, func(n string) bool { return strings.HasPrefix(n, "adapter_model") })
	if i < 0 {
		i = slices.Index(f.Files, "adapter_config.json") // transformers looks for it
	}
	if i < 0 {
		return
	}
	if shards == 0 {
		f.add(Adapter, true, f.Files[i], "merge it into its base model with PEFT (merge_and_unload) and save that", "the folder holds a LoRA adapter alone, not a model")
		return
	}
	f.add(Adapter, false, f.Files[i], "delete it and adapter_config.json if it was merged; else merge it first (PEFT, merge_and_unload)",
		"a LoRA adapter beside the model: loaders that look for adapters apply it to the weights once more")
}

func sorted(set map[string]bool) []string {
	var out []string
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
