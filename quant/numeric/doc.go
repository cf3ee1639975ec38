// Package numeric holds the number formats of quantised weights and the
// arithmetic that produces them, in plain Go: the truth that every fast path is
// tested against.
//
// # Formats
//
//	BF16      8 exponent bits, 7 mantissa bits; rounding to nearest even
//	E4M3FN    FP8: bias 7, largest value 448, NaN at 0x7f and 0xff, no infinity
//	INT8      two's complement, one byte
//	INT4      two's complement in [-8, 7]; packed by PackNibbles (in memory),
//	          AppendInt4Words (compressed-tensors) or AppendInt4RowPairs (Ascend)
//
// # Scales
//
// A weight w is stored as codes q and scales s with w ≈ q·s. Spec says how the
// scale of a row, group or block follows from its largest magnitude a:
//
//	CompressedTensors  s = bf16(a/448), bf16(a/127.5), bf16(a/7.5); 2^-7 if that is 0
//	DeepSeekBlock      s = max(a, 1e-4)/448 in F32
//	Ascend             s = bf16(max(a/127, 2^-23)); int4: max(a/7, 2^-23) in F32
//
// The int8 scales of Ascend are BF16 values because the NPU rounds them to BF16
// when it loads them: codes must fit the scale that is used.
//
// # Arithmetic
//
// Compat repeats the layout's reference tool bit by bit: llm-compressor's BF16
// quotients, DeepGEMM's reciprocal, msmodelslim's BF16 quotients and its SSZ
// search. Best, the default, divides in F32 by the scale as stored, and for
// int4 searches the scale with the least squared error (see searchInt4).
//
// Everything is deterministic and independent of how a weight is cut into
// tiles, with one exception that its user must know: Compat int4 of Ascend
// needs a whole weight, because the reference's stopping rule looks at all rows.
package numeric
