// Package calib learns from text how a checkpoint is best quantised. It stands
// above the runtime, which makes the activations, and hands what it finds to
// package quant.
package calib
