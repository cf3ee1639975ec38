// Package report writes what verify.Compare found, for people and for machines.
//
//	fmt.Print(report.Text(r))       // the verdict first, a line per check
//	err := report.JSON(w, r)        // schema glmconv.verify/1, see Schema
//	err := report.JUnit(w, r)       // a test case per check, for CI systems
//	err := report.HTML(w, r)        // one self-contained page with plots
//
// All four show the same six checks: exact (files, copies, config), oracle (the
// result against our own rounding), KL (the budget), guard rails (tail, NRMSE,
// flips), layers (growth of the error, experts chosen) and MTP (drafts).
//
// Names of tensors and files come from checkpoints and are treated as hostile:
// they are escaped for the place they appear in, and control characters never
// reach a terminal.
//
// # Figures that are not finite
//
// JSON knows neither NaN nor infinity. Both are written as null: null is "no
// figure" where nothing was measured, and "beyond all bounds" where the verdict
// says that logits were not finite (logits.non_finite counts those positions).
package report
