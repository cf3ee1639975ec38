// Package runtime runs GLM checkpoints on a CPU: from BF16 and from every
// quantised layout that glmconv writes, with the arithmetic that the serving
// engines use for it.
//
//	m, err := runtime.Load("GLM-4.5-Air-W8A8", runtime.Options{})
//	s := m.NewSession()
//	h, err := s.Forward(ctx, ids)             // states after model.norm [T, H]
//	z, err := m.Logits(ctx, h[len(h)-H:])     // logits of the last token [1, V]
//
// Package runtime/spec generates text from it, runtime/tokenizer makes the ids.
//
// # One token, one answer
//
// The logits of a token depend on the tokens before it and on nothing else: not
// on the batch it is computed in, the number of threads, the chunks of a long
// prompt, the tiles of a streamed weight, or on whether it is a draft that is
// being verified. Every sum has one order (runtime/kernel), activations are
// quantised for each token, and a token's experts are added up in the order of
// their numbers. Tests compare with ==.
//
// # One forward pass, two ways to hold weights
//
// Blocks ask a Provider for weights, a run of rows at a time. Resident keeps
// what it has read; Streaming reads each tile and forgets it, so that a model
// larger than memory goes through layer by layer:
//
//	p, _ := runtime.NewStreaming(cfg, ckpt, 16<<20)
//	m, _ := runtime.New(cfg, p, runtime.Options{})
//	x, _ := m.Embed(ids)
//	spans := []runtime.Span{{N: len(ids)}}
//	for l := range m.Layers() {
//		spans[0].Cache = new(runtime.LayerCache)
//		err := m.Layer(ctx, l, x, spans, nil)
//	}
//	h, _ := m.FinalNorm(x)
//	r := m.LogitReader(h)
//	n, err := r.Next(ctx, 32*runtime.LogitRun, z) // logits of the first 4,096 entries
//
// # Latent and sparse attention
//
// glm_moe_dsa and glm4_moe_lite keep a latent vector and one rotated key for
// each token. Every row is computed in the absorbed form, drafts and prompts
// alike: two forms would round differently, and a token's logits would depend
// on how a prompt was cut. The expanded form is Options.ExpandKV. An indexer
// chooses at most index_topk tokens for each row, the lowest slot among equals;
// Evaluation.Keys and Trace.Keys show them. Compare them, not logits alone: a
// wrong indexer costs little on short texts.
//
// # Pictures and clips
//
// glm4v_moe reads media through package runtime/vision. Their embeddings and
// three-axis positions are attached to a session; the forward pass is the same:
//
//	p, _ := vision.Load(dir, m.Config())
//	items, err := p.Open(ctx, vision.Files{Images: []string{"a.png"}})
//	in, err := p.Prepare(m.Config(), ids, items, tok.EncodeOrdinary)
//	media, err := m.Media(ctx, in)            // runs the vision tower
//	err = s.Attach(media)
//	h, err := s.Forward(ctx, in.IDs)
//
// # Precision
//
// Activations outside of quantised modules, the residual stream, norms, router,
// softmax and all accumulation are float32 (docs/facts/families.md 12). Quantised
// modules: see runtime/kernel; scales are rounded as the engines round them
// when they load a file.
package runtime
