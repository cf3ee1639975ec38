// Package kernel holds the arithmetic of the runtime on slices: products of
// activations with stored weights, norms, softmax, rope, routing, and the
// quantisation of activations. It knows neither files nor models.
//
// # One order of summation
//
// Every output element is a function of its own inputs alone, and the order of
// its sum is fixed: it does not depend on how many rows are computed together,
// on the number of threads or on how the work is cut into tiles. In plain Go the
// order of a floating-point dot product over k = 0 … n−1 is
//
//	lane[j] = ((p[j] + p[j+8]) + p[j+16]) + …     j = 0 … 7, p[k] = x[k]·w[k]
//	sum     = ((lane0+lane4) + (lane2+lane6)) + ((lane1+lane5) + (lane3+lane7))
//
// with every product and every sum rounded to float32 and a lane that no
// element falls on being 0. That is eight lanes of one vector register, folded
// in halves. With vector instructions (internal/asm, chosen by internal/cpu)
// weights are turned into panels, columns side by side in a register (BF16 ones
// that few tokens meet, in registers alone), and an element is one chain of fused multiply-adds over k (PanelF32), or one for each
// scale group. AVX2 and AVX-512 give the same bits; plain Go is within
// K·2^-24·Σ|p| of them.
//
// On matrix tiles (AMX) a product of BF16 or E4M3 weights is a chain over steps of
// 32 columns, each step adding
//
//	(t[0] + t[2] + … + t[30]) + (t[1] + t[3] + … + t[31])     t[k] = x[k]·w[k], exact
//
// every sum rounded, subnormal numbers taken for 0. A float32 activation is cut
// into three BF16 terms of eight bits, without a remainder, and a step is done
// for each, largest first: the result is as close to exact sums as a chain of
// fused multiply-adds. Activations below 2^-110 lose their last bits so, and a
// weight that is not finite makes NaN where plain arithmetic may give infinity.
// FP4 codes times their scales of a byte are BF16 weights there; NVFP4's global
// scale multiplies, or divides, the sum.
//
// Integer products are exact in int32 and so agree in any order:
// |code|·|code|·K ≤ 2^14·K, hence K may be up to 131,071. Their scales are
// applied in the same order everywhere. Norms, SwiGLU, softmax and the rounding
// of activations have one order too: their twins give the bits of plain Go.
//
// Weights and activations are row-major: y[M,N] = x[M,K] · w[N,K]ᵀ, and row i
// of y starts at y[i·ldy].
//
// # Quantised products
//
// They compute what the serving engines compute (docs/facts/ascend.md 2.2-2.5,
// docs/facts/engine-vllm.md 5), with s the weight's scale and t the token's:
//
//	W8A8     y = float(Σ q·a) · s · t                       exact int32 sum
//	W4A8     y = (Σ_g float(Σ_{k∈g} q·a) · s_g) · t         groups in order
//	FP8      y = (Σ q·a) · s · t                            q, a E4M3 values
//	FP8 128  y = Σ_g (Σ_{k∈g} q·a) · (s_g · t_g)
//	W4A8-FP8 y = (Σ_g (Σ_{k∈g} q·a) · s_g) · t              a E4M3 values
//	W4A16    y = Σ (q·s)·x                                  weight only
package kernel
