// Package spec generates text: token by token, or with drafts of the MTP layer
// that the model verifies several at a time (speculative decoding,
// docs/facts/families.md 5.1-5.5).
//
//	out, err := spec.Generate(ctx, m, prompt, spec.Options{
//		Drafts:    3,
//		MaxTokens: 64,
//		Stop:      m.Config().EOS,
//	})
//	fmt.Println(out.Tokens, out.Finish, out.Counters.AcceptanceLength())
//
// # One pass of draft and verification
//
// The model has seen p tokens; token p has been chosen and not been read yet.
//
//	draft    the MTP layer reads the slots that the model processed last, with
//	         its true states, then its own drafts: d₁ … d_k
//	verify   the model reads token p and d₁ … d_k in one pass, k+1 rows of logits
//	accept   the drafts up to the first that differs from the token which the
//	         row before it chooses, and that token
//	rewind   both caches are cut back to the accepted tokens
//
// The MTP layer's cache is warmed over the whole prompt, and holds true states
// only whenever a pass begins. A draft step carries the state after
// shared_head.norm, or before it (Options.PreNorm) as vLLM does for glm4_moe
// and glm4_moe_lite.
//
// # The text does not depend on drafts
//
// Logits are bit-identical however many rows are computed together (package
// runtime), so that greedy text is the same with and without drafts. Sampled
// text is too: the token of a place is the inverse of the distribution function
// at the one random number of that place, and a draft is accepted if it equals
// that token. A draft d is thus accepted with probability P(d), and what comes
// in place of a refused one is distributed as P without d, renormalised: exactly
// the rule of speculative sampling (Leviathan et al. 2023) for one-hot drafts.
//
// # Counters
//
// Counters have vLLM's definitions: the acceptance rate is accepted drafts by
// all drafts, the acceptance length 1 + accepted drafts by passes, and the rate
// of position i counts the passes that accepted at least i drafts. As there,
// drafts behind a stop token or the last token asked for still count.
package spec
