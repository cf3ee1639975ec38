// Command peers measures glmconv beside the programs that do the same work, on
// the same data, in the same run: A B A B, medians and ratios. A ratio is that
// of a pair, so that what the machine does meanwhile falls on both sides; the
// figures themselves change from machine to machine and from hour to hour.
//
//	go run ./internal/bench/peers [-pairs 5] [-bytes 4GB] [-only REGEXP] [-json FILE [-resume]] [-list]
//
// It runs in the root of the project, needs Python 3.11 and a package index, for
// llama.cpp a C++ compiler too, and installs the peers at pinned versions into
// interop/.venv-* (interop/run setup). What it compares:
//
//	convert   glmconv quantize with llm-compressor's model_free_ptq, msmodelslim
//	          and auto-round, on a synthetic checkpoint of GLM-4.5-Air's widths in
//	          three shards, cached by the system. Both write to the disk; a run ends
//	          when every file of the result is flushed. Wall time, processor time
//	          (user and system) and peak memory of the process.
//	matmul    the runtime's kernels with PyTorch, in one expert's gate projection
//	          (4096 to 1408): int8 with torch._int_mm, BF16 weights with float32
//	          matmul. Weights change from call to call, so that they come from
//	          memory. GFLOP/s counts 2·M·N·K operations.
//	runtime   the runtime with llama.cpp: a prompt of 512 tokens and decoding, 2
//	          layers of GLM-4.5-Air's widths with 16 experts; the same weights
//	          through llama.cpp's own converter.
//
// A ratio above 1 is in glmconv's favour. On a processor with AMX, which all
// three use, further rows have it switched off in PyTorch and llama.cpp.
//
// Measuring takes long: with -json FILE -resume the pairs of earlier calls
// count, and -max N ends after N pairs of each row.
package main
