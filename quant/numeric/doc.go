// Package numeric holds the number formats of quantised weights and the
// arithmetic that produces them, in plain Go: the truth that every fast path is
// tested against.
//
// # Formats
//
//	BF16      8 exponent bits, 7 mantissa bits; rounding to nearest even
//	E4M3FN    FP8: bias 7, largest value 448, NaN at 0x7f and 0xff, no infinity
//	INT8      two's complement, one byte
//	E2M1      FP4: 0 0.5 1 1.5 2 3 4 6 and their negatives
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
//	MX                 s = 2^k, groups of 32, stored E8M0
//	NVFP4              s = e4m3(g·a/6)/g, groups of 16; g = 2688/largest of the fused set
//
// The int8 scales of Ascend are BF16 values because the NPU rounds them to BF16
// when it loads them: codes must fit the scale that is used.
//
// # Arithmetic
//
// Compat repeats the layout's reference tool bit by bit: llm-compressor's BF16
// quotients, DeepGEMM's reciprocal, msmodelslim's BF16 quotients and its SSZ
// search. Its codes are those of BF16 sources; Spec.SourceF32 is for F32 ones.
//
// Best, the default, rounds w × float32(1/s) with s as stored. The int8 and FP8
// scales are those of Compat. int4 scales are searched: for the codes q of a
// candidate, Σwq/Σq² is the best scale and Σw² − (Σwq)²/Σq² its error, so six
// or seven candidates a group (six a row, for channel scales), each one pass,
// and one to four least-squares steps from the best suffice. Relative RMS
// error, weights rounded to BF16:
//
//	                         Gaussian  Student t5
//	absmax/7.5, groups of 128   .111      .162
//	positive scales, 128        .101      .147
//	either sign, 128            .097      .139
//	absmax/7.5, groups of 32    .095      .120
//	either sign, 32             .081      .103
//	SSZ, rows of 4096           .110      .192
//	channel search, 4096        .108      .191
//
// Sums are taken in a fixed order of float32 lanes, without fused
// multiply-add, so that vector code can return the same bits (kernels.go).
//
// Everything is deterministic and codes and scales do not depend on how a weight
// is cut into tiles, with one exception: the stopping rule of Compat int4 of
// Ascend looks at all rows, see Spec.SSZSteps.
package numeric
