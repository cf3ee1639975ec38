package fakehub

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// uploads are the routes of the hub's own client for writing without xet: which
// files are large, where their bytes go (whole, or in parts), and the commit.
type uploads struct {
	mu    sync.Mutex
	parts map[string]map[int][]byte // by SHA-256
	whole map[string][]byte
}

// write answers a request that writes, and reports whether it was one.
func (h *Hub) write(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	switch {
	case path == "/api/repos/create":
		answer(w, map[string]any{"url": h.URL + "/" + h.ID})
	case path == "/api/validate-yaml":
		answer(w, map[string]any{"errors": []any{}, "warnings": []any{}})
	case strings.HasPrefix(path, "/api/models/"+h.ID+"/preupload/"):
		h.preupload(w, r)
	case strings.HasPrefix(path, "/api/models/"+h.ID+"/commit/"):
		h.commitFiles(w, r)
	case path == "/"+h.ID+".git/info/lfs/objects/batch":
		h.batch(w, r)
	case strings.HasPrefix(path, "/lfs/complete/"), strings.HasPrefix(path, "/lfs/verify/"):
		_, sum, _ := strings.Cut(strings.TrimPrefix(path, "/lfs/"), "/")
		if _, ok := h.up.finish(sum); !ok {
			w.WriteHeader(http.StatusBadRequest)
			return true
		}
		answer(w, map[string]any{})
	default:
		return false
	}
	return true
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// preupload says which files go the way of large ones.
func (h *Hub) preupload(w http.ResponseWriter, r *http.Request) {
	var q struct{ Files []struct{ Path string } }
	if json.NewDecoder(r.Body).Decode(&q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	out := []map[string]any{}
	for _, f := range q.Files {
		mode := "regular"
		if lfs(f.Path) {
			mode = "lfs"
		}
		out = append(out, map[string]any{"path": f.Path, "uploadMode": mode, "shouldIgnore": false})
	}
	answer(w, map[string]any{"files": out})
}

// batch says where the bytes of large files go: in parts of h.Part bytes where they
// have more.
func (h *Hub) batch(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Objects []struct {
			OID  string
			Size int64
		}
	}
	if json.NewDecoder(r.Body).Decode(&q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	out := []map[string]any{}
	for _, o := range q.Objects {
		up := map[string]any{"href": h.Data + "/lfs/" + o.OID + "/1?Signature=secret-signature"}
		if h.Part > 0 && o.Size > h.Part {
			header := map[string]any{"chunk_size": strconv.FormatInt(h.Part, 10)}
			for n := int64(1); (n-1)*h.Part < o.Size; n++ {
				header[strconv.FormatInt(n, 10)] = fmt.Sprintf("%s/lfs/%s/%d?Signature=secret-signature", h.Data, o.OID, n)
			}
			up = map[string]any{"href": h.URL + "/lfs/complete/" + o.OID, "header": header}
		}
		out = append(out, map[string]any{"oid": o.OID, "size": o.Size,
			"actions": map[string]any{"upload": up, "verify": map[string]any{"href": h.URL + "/lfs/verify/" + o.OID}}})
	}
	answer(w, map[string]any{"transfer": "basic", "objects": out})
}

// put takes a part of a large file.
func (h *Hub) put(w http.ResponseWriter, r *http.Request) {
	sum, number, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/lfs/"), "/")
	n, err := strconv.Atoi(number)
	data, err2 := io.ReadAll(r.Body)
	if err != nil || err2 != nil || r.Header.Get("Authorization") != "" || r.URL.Query().Get("Signature") == "" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	h.up.mu.Lock()
	defer h.up.mu.Unlock()
	if h.up.parts[sum] == nil {
		h.up.parts[sum] = map[int][]byte{}
	}
	h.up.parts[sum][n] = data
	w.Header().Set("ETag", fmt.Sprintf(`"%d-%d"`, n, len(data)))
}

// finish puts the parts of a file together, false if they are not the file.
func (u *uploads) finish(sum string) ([]byte, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.whole[sum] != nil {
		return u.whole[sum], true
	}
	var all []byte
	for n := 1; u.parts[sum][n] != nil; n++ {
		all = append(all, u.parts[sum][n]...)
	}
	if got := sha256.Sum256(all); hex.EncodeToString(got[:]) != sum {
		return nil, false
	}
	u.whole[sum] = all
	return all, true
}

// commitFiles takes over the files that a commit names.
func (h *Hub) commitFiles(w http.ResponseWriter, r *http.Request) {
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 64<<20)
	files := map[string][]byte{}
	for lines.Scan() {
		var op struct {
			Key   string
			Value struct{ Path, Content, OID string }
		}
		err := json.Unmarshal(lines.Bytes(), &op)
		v := op.Value
		switch {
		case err != nil:
		case op.Key == "file":
			files[v.Path], err = base64.StdEncoding.DecodeString(v.Content)
		case op.Key == "lfsFile":
			data, ok := h.up.finish(v.OID)
			if !ok {
				err = fmt.Errorf("%s of %s", op.Key, v.Path)
			}
			files[v.Path] = data
		case op.Key != "header":
			err = fmt.Errorf("%s of %s", op.Key, v.Path)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	if lines.Err() != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.Lock()
	for name, data := range files {
		h.Files[name] = bytes.Clone(data)
	}
	h.Unlock()
	answer(w, map[string]any{"success": true, "commitOid": h.Commit, "commitUrl": h.URL + "/" + h.ID + "/commit/" + h.Commit})
}
