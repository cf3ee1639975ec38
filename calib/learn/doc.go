// Package learn finds codes and scales of one weight from second moments of its
// inputs (docs/facts/accuracy.md 2).
//
//	g := learn.NewGram(cols, cross)
//	g.Add(served, float, rows, workers)              // inputs, tile by tile
//	b, err := learn.NewBasis(g, learn.Options{}, workers) // order, damping, factor: of all weights with these inputs
//	m, loss := b.Solve(spec, w, rows, workers)       // codes and scales
//
// With W [O, I] the weight, X its inputs in the float model and X̂ those that it
// will be served with, the output's error ‖XWᵀ − X̂Ŵᵀ‖²/N is a constant plus
// tr((W* − Ŵ)H(W* − Ŵ)ᵀ) with H = X̂ᵀX̂/N, C = XᵀX̂/N and W* = W·C·H⁻¹ (GPTAQ, arXiv
// 2504.02692). Solve takes W* for the target, finds scales weighted by diag H,
// rounds column by column in descending order of diag H while the rest makes up
// for each error (GPTQ, arXiv 2210.17323), and then goes round the columns and
// scales again until nothing changes.
//
// Sums have one order whatever the number of workers and the tiles. Rows of a
// weight are independent, and work is shared out by rows. The vector kernels fuse
// multiplication and addition: the last bits depend on the kind of CPU.
package learn
