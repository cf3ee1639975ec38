package engine

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// TestReleaseIsData: a release is a name in an engine's list and rows where it
// differs. One made here, in the test, is found by its name and answers for
// itself; those before it answer as they did.
func TestReleaseIsData(t *testing.T) {
	next := vllm
	next.releases = append(slices.Clone(vllm.releases), "9.1")
	next.forms = append([]form{
		{layout: CompressedTensors, match: integers(3, format.Activation{}, format.Words), during: span{from: "9.1"}},
		{layout: HFFP8, match: anything, during: span{from: "9.1"}, answer: Refuses, why: "9.1 has given up block FP8"},
	}, vllm.forms...)
	next.faults = append([]fault{{codes: []string{"scale-zero"}, does: Refuses, during: span{from: "9.1"}}}, vllm.faults...)
	defer func(s *spec) { specs[VLLM] = s }(specs[VLLM])
	specs[VLLM] = &next

	r, err := Find("vllm@9.1.3")
	require.NoError(t, err)
	assert.Equal(t, "vLLM 9.1", r.Title())
	assert.Equal(t, r, Newest(VLLM))
	before, err := Find("vllm@v0.33.0")
	require.NoError(t, err)
	assert.Equal(t, "0.33", before.Version)

	cfg, err := glm.Preset("glm-4.5")
	require.NoError(t, err)
	three := Part{Weight: format.Integer(3, 64).Packed(format.Words)}
	block := Part{Weight: format.Float8Block, Acts: format.Float8Group}
	answer := func(r Release, l Layout, p Part) Answer {
		return Summarize(Judge(Subject{Config: cfg, Layout: l, Experts: p}, Query{Releases: []Release{r}})).Answer
	}
	assert.Equal(t, Loads, answer(r, CompressedTensors, three))
	assert.Equal(t, NotJudged, answer(before, CompressedTensors, three))
	assert.Equal(t, Refuses, answer(r, HFFP8, block))
	assert.Equal(t, Loads, answer(before, HFFP8, block))
	assert.Equal(t, Refuses, r.Reacts("scale-zero", true))
	assert.Equal(t, Differs, before.Reacts("scale-zero", true))
}

// TestTablesNameReleases: every row of every table names releases of its
// engine; a typo would otherwise show in a user's terminal.
func TestTablesNameReleases(t *testing.T) {
	for _, e := range Engines {
		s := specs[e]
		all := slices.Clone(s.renewed)
		spans := []span{}
		for _, f := range s.forms {
			spans = append(spans, f.during)
		}
		for _, r := range s.rules {
			spans = append(spans, r.during)
		}
		for _, f := range s.faults {
			spans = append(spans, f.during)
			assert.NotEmpty(t, f.codes, e)
		}
		for _, x := range s.schemes {
			for _, during := range []*span{x.linear, x.experts} {
				if during != nil {
					spans = append(spans, *during)
				}
			}
		}
		for _, x := range spans {
			all = append(all, x.from, x.until)
		}
		for _, v := range all {
			assert.True(t, v == "" || slices.Contains(s.releases, v), "%s has no release %s", e, v)
		}
	}
}

func TestFind(t *testing.T) {
	for text, want := range map[string]string{
		"vllm": "vllm 0.33", "vllm@0.32": "vllm 0.32", "vllm@0.32.1": "vllm 0.32", "vllm-ascend@0.18.0": "vllm-ascend 0.18",
		"vllm-ascend@v0.30.0rc2": "vllm-ascend 0.30", "sglang@0.5.23": "sglang 0.5.23",
		"tgi": "", "vllm@0.3": "", "vllm@0.321": "", "vllm@": "", "": "", "VLLM": "",
	} {
		r, err := Find(text)
		if want == "" {
			require.ErrorIs(t, err, ErrUnknown, text)
			continue
		}
		require.NoError(t, err, text)
		assert.Equal(t, want, r.String())
	}
	d, err := FindDevice("A100")
	require.NoError(t, err)
	assert.Equal(t, "a100-80g", d.ID)
	_, err = FindDevice("tpu")
	require.ErrorIs(t, err, ErrUnknown)
}

// TestFourBitExpertsOnNPUs: SGLang has classes for MX experts of the ascend layout
// on Atlas 950 alone (0.5.23 modelslim.py, get_moe_scheme).
func TestFourBitExpertsOnNPUs(t *testing.T) {
	cfg, err := glm.Preset("glm-5")
	require.NoError(t, err)
	r, err := Find("sglang@0.5.23")
	require.NoError(t, err)
	for device, want := range map[string]Answer{"atlas-950": Loads, "ascend-a3": Refuses} {
		d, err := FindDevice(device)
		require.NoError(t, err)
		mx := Part{Weight: format.MXFP4, Acts: format.MXFP4Group, Scheme: "W4A4_MXFP4"}
		s := Subject{Config: cfg, Layout: AscendLayout, Experts: mx, Shared: mx, Dense: mx, Attention: mx, Output: mx, Draft: HasDraft}
		rows := Judge(s, Query{Releases: []Release{r}, Hardware: &d})
		assert.Equal(t, want, rows[0].Answer, "%s: %s", device, rows[0].Rule)
	}
}

// TestDraftsByRelease: what each release makes of an MTP layer.
func TestDraftsByRelease(t *testing.T) {
	int8 := Part{Weight: format.Int8, Acts: format.Int8Token}
	for name, tc := range map[string]struct {
		preset, who string
		layout      Layout
		draft       Draft
		experts     Part // of the MTP layer
		flag, none  string
	}{
		"quantized, SGLang on NPUs":            {"glm-5", "sglang", AscendLayout, HasDraft, int8, "--quantization modelslim", ""},
		"full precision, SGLang on NPUs":       {"glm-5", "sglang", AscendLayout, HasDraft, Part{}, "EAGLE", ""},
		"quantized, GLM-4.x, SGLang on NPUs":   {"glm-4.5-air", "sglang", AscendLayout, HasDraft, int8, "", "no entries"},
		"full precision beside INT8 in SGLang": {"glm-4.5-air", "sglang", CompressedTensors, HasDraft, Part{}, "", "w8a8_int8"},
		"lost":                                 {"glm-4.5-air", "vllm", CompressedTensors, LostDraft, Part{}, "", "do not hold"},
		"shared selection, 0.25":               {"glm-5.2", "vllm-ascend@0.25", AscendLayout, HasDraft, int8, "deepseek_mtp", ""},
		"shared selection, 0.27":               {"glm-5.2", "vllm-ascend@0.27", AscendLayout, HasDraft, int8, "", "index_share_for_mtp_iteration"},
		"none":                                 {"glm-4.5v", "vllm", CompressedTensors, NoDraft, Part{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := glm.Preset(tc.preset)
			require.NoError(t, err)
			r, err := Find(tc.who)
			require.NoError(t, err)
			s := Subject{Config: cfg, Layout: tc.layout, Experts: int8, Shared: int8, Attention: int8, Draft: tc.draft, DraftExperts: tc.experts}
			got := Summarize(Judge(s, Query{Releases: []Release{r}}))
			assert.Equal(t, Loads, got.Answer, got.Rule)
			flags := ""
			for _, f := range got.Flags {
				flags += f + " "
			}
			assert.Contains(t, flags, tc.flag)
			if tc.none == "" {
				assert.Empty(t, got.NoDraft)
				return
			}
			assert.Contains(t, got.NoDraft, tc.none)
			assert.Contains(t, got.Rule, "no speculative decoding")
			assert.NotContains(t, flags, "speculative")
		})
	}
}

func TestVisionHeads(t *testing.T) {
	cfg, err := glm.Preset("glm-4.5v")
	require.NoError(t, err)
	for who, flag := range map[string]string{"vllm": "--mm-encoder-tp-mode data", "sglang": "--mm-enable-dp-encoder", "vllm-ascend": "--mm-encoder-tp-mode data"} {
		r, err := Find(who)
		require.NoError(t, err)
		for _, row := range Judge(Subject{Config: cfg}, Query{Releases: []Release{r}}) {
			if row.OK() {
				assert.Equal(t, row.Parallel == "TP8" || row.Parallel == "TP16" || row.Parallel == "TP8+EP" || row.Parallel == "TP16+EP",
					slices.Contains(row.Flags, flag), "%s %s", who, row.Parallel)
			}
		}
	}
}
