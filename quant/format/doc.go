// Package format says what a weight or an activation is quantized to: one
// record for each, in the terms of compressed-tensors' QuantizationArgs.
//
//	w := format.Int4(128).Packed(format.Words)  // W4A16: groups of 128, eight codes to an I32 word
//	w.Quantized()                               // true
//	w.SameCodes(format.Int4(128))               // true: the same numbers, stored otherwise
//	w.String()                                  // "int4 group 128"
//	a := format.Int8Token                       // int8 activations, one dynamic scale a token
//
// A [Weight] is orthogonal: number type, bits, strategy, group or block,
// zero points, packing, and one or two levels of scales. FP8, INT8, INT4,
// FP4 and MX formats are values of it, and so are formats that nobody writes
// yet. Both records are comparable: == asks for the same arithmetic and the
// same bytes.
//
// The plan, the layouts, the engines' rules, the checks, the runtime and
// verify speak of weights and activations in these records. Texts are made of
// them where a person reads, and nowhere taken apart again.
//
// Sources: compressed-tensors 0.20.1 quantization/quant_args.py; the OCP
// Microscaling Formats specification 1.0 for MX; docs/facts/formats.md.
package format
