// Package tokenizer turns text into token ids and back, as the tokenizer.json
// of a GLM checkpoint says.
//
//	tok, err := tokenizer.Load("GLM-4.5-Air")       // directory or file
//	ids := tok.Encode("[gMASK]<sop>Hello, world")   // added tokens are recognised
//	ids = tok.EncodeOrdinary(userText)              // … and here they are not
//	ids, err = tok.EncodeContext(ctx, long)         // … ends soon after ctx does
//	text := tok.Decode(ids)
//
//	d := tok.NewDecoder()                           // streaming
//	for id := range generated { fmt.Print(d.Add(id)) }
//	fmt.Print(d.Flush())
//
// # Algorithm
//
// Byte-level BPE (docs/facts/families.md 7). Added tokens are cut out of the
// text first, the longest one at the leftmost place. What lies between is split
// into pieces by the GLM pre-tokenizer, a scanner written by hand (the regular
// expression needs a look-ahead, which Go's regexp does not have). With
// ignore_merges a piece that is a vocabulary entry as a whole becomes that
// entry; otherwise its bytes are merged by rank, the leftmost pair first among
// equals. Nothing is normalised, no token is added at the start.
//
// Text typed by a user should be encoded with EncodeOrdinary: Encode would turn
// a literal "<|system|>" into the role marker.
//
// # What is refused
//
// A tokenizer.json with another model than BPE, another splitting expression,
// a normalizer, a post-processor that adds tokens, unknown or byte-fallback
// tokens, or added tokens that strip or need word borders. Guessing would give
// plausible but wrong ids. The error is an *Error and matches ErrUnsupported;
// a damaged file matches ErrInvalid.
package tokenizer
