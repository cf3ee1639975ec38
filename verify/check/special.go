package check

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
)

// checkSpecial looks at the modules that engines build in full precision
// whatever a config says, and at the MTP layer.
func (s *subject) checkSpecial() {
	if s.model == nil {
		return
	}
	for _, m := range s.modules {
		if m.form.quantized() {
			s.checkQuantisedSpecial(m)
		}
	}
	s.checkMTPCopies()
	s.checkMTPWidth()
}

func (s *subject) checkQuantisedSpecial(m *module) {
	where, f := m.row.Module, m.form
	switch r := m.row.Role; {
	case r == glm.Router:
		s.add("router-quantized", where, "it is %s", f)
	case r == glm.MTPProj:
		what := "drafts are computed from codes read as numbers"
		if s.codesOnly() {
			what = "engines build it in full precision and have no place for its codes"
		}
		s.add("eh-proj-quantized", where, "it is %s; %s", f, what)
	case r == glm.Embedding:
		s.add("embedding-quantized", where, "it is %s", f)
	case r == glm.Head && s.headBuilt(m):
		s.add("head-quantized", where, "it is %s, as the config says; engines without a head of codes are named", f).as(Info).hint("")
	case r == glm.Head:
		s.add("head-quantized", where, "it is %s", f)
	case r == glm.MTPEmbedding, r == glm.MTPHead:
		s.add("mtp-copy-quantized", where, "it is %s; vLLM and SGLang bind the model's own instead, or fail on the scale", f)
	case r == glm.IndexerK && f.kind == int8Channel:
		s.add("indexer-wk-int8", where, "it is %s", f)
	case r == glm.IndexerK && (f.kind == fp8Block || f.kind == fp8BlockInv):
	case r == glm.IndexerK && f.kind == fp8Channel:
		s.add("indexer-quantized", where, "it is %s: vLLM dequantises it, SGLang fails", f).as(Warning).on("sglang")
	case r == glm.IndexerK, r == glm.IndexerProj, r == glm.IndexerKNorm:
		s.add("indexer-quantized", where, "it is %s; the engines build it in BF16", f)
	case r == glm.AttnKVB:
		s.checkKVB(m)
	case r.IsVision():
		s.add("vision-quantized", where, "it is %s", f).as(Warning)
	case !r.IsLinear():
		s.add("norm-quantized", where, "a %s is %s", r, f)
	}
}

// headBuilt tells whether an engine that is asked builds the head for the codes
// that are stored. Those that do not are engine-misreads.
func (s *subject) headBuilt(m *module) bool {
	if s.decl == nil || s.declErr != nil || s.ascend || s.decl.Declaration == nil || !s.decl.Method.Known() {
		return false
	}
	conf, err := s.engineConfig()
	if err != nil {
		return false
	}
	for _, r := range s.releases {
		for _, x := range engine.Modules(r, s.tableConfig(), s.decl.method == "compressed-tensors") {
			if x.Kind != engine.Head || x.Draft {
				continue
			}
			if res := engine.Resolve(r, s.cfg, conf, x); res.Err == "" && res.Unknown == "" && s.readAs(m, res.Weight) {
				return true
			}
		}
	}
	return false
}

// checkKVB knows what becomes of a quantised kv_b_proj
// (docs/facts/engine-sglang.md 4, docs/facts/engine-vllm-ascend.md 4).
func (s *subject) checkKVB(m *module) {
	switch {
	case s.ascend:
		s.add("kv-b-quantized", m.row.Module, "it is %s; vllm-ascend asserts that it is FLOAT", m.form).on("vllm-ascend")
	case m.form.kind == int4Packed:
		s.add("kv-b-quantized", m.row.Module, "it is %s; SGLang fails on it, vLLM dequantises it", m.form).as(Warning).on("sglang")
	case m.form.kind == fp8Channel:
		s.add("kv-b-quantized", m.row.Module, "it is %s; SGLang rounds it once more, to one scale for the tensor", m.form).as(Warning).on("sglang")
	}
}

// withoutCopy is what vllm-ascend does without a copy in families with latent
// attention (docs/facts/engine-vllm-ascend.md 5).
var withoutCopy = map[glm.Role]string{
	glm.MTPEmbedding: "without it drafts are right on one pipeline stage only",
	glm.MTPHead:      "an absent head of a quantised model stays uninitialised without an error, and drafts are noise",
}

// checkMTPCopies says which engines miss the layer's own embedding and head.
func (s *subject) checkMTPCopies() {
	mtp := s.model.MTP
	if mtp == nil || mtp.MissingCount > 0 || mtp.File == "" {
		return
	}
	for _, row := range s.rows {
		if row.Role != glm.MTPEmbedding && row.Role != glm.MTPHead {
			continue
		}
		if m := s.byName[row.Module]; m == nil || m.form.kind != absent {
			continue
		}
		if !s.cfg.LatentAttention() {
			s.add("mtp-copy-missing", row.Name, "vLLM, SGLang and vllm-ascend take the model's own").as(Info)
			continue
		}
		f := s.add("mtp-copy-missing", row.Name, "vLLM and SGLang bind the model's own; vllm-ascend needs the copy for %s: %s", s.cfg.Family, withoutCopy[row.Role]).on("vllm-ascend")
		switch {
		case s.ascend && row.Role == glm.MTPHead:
			f.as(Error)
		case !s.ascend && s.decl != nil:
			f.as(Info)
		}
	}
}

// checkMTPWidth notices MTP weights in F32 beside a BF16 trunk.
func (s *subject) checkMTPWidth() {
	wide, trunk := 0, 0
	var first safetensors.Info
	for _, m := range s.modules {
		t, ok := m.params["weight"]
		if !ok || t.DType != safetensors.F32 || len(t.Shape) < 2 {
			continue
		}
		if !m.row.MTP {
			trunk++
		} else if wide++; wide == 1 {
			first = t
		}
	}
	if wide > 0 && trunk == 0 {
		s.add("mtp-widened", first.Name, "%d weights of the MTP layer are F32", wide)
	}
}
