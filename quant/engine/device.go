package engine

import (
	"slices"
	"strings"
)

// Device is an accelerator, by the id that --hardware takes.
type Device struct {
	ID         string
	Alias      []string
	Vendor     string // "nvidia", "amd", "huawei", "cpu"
	Generation string // in the words of reports
	Capability int    // NVIDIA: 90 is compute capability 9.0
	FP8        support
	Int8       support
	Sparse     []Engine // with kernels for sparse attention
}

// support is how a device computes with a format.
type support uint8

const (
	unknown    support = iota
	none               // not at all
	weightOnly         // values are widened in the kernel: memory is saved, no time
	native
)

var (
	sparseGPU   = []Engine{VLLM, SGLang}
	sparseVLLM  = []Engine{VLLM}
	sparseHuawi = []Engine{Ascend, SGLang}
)

// devices are the accelerators of the tables (docs/facts/engine-vllm.md,
// docs/facts/engine-sglang.md and docs/facts/engine-vllm-ascend.md say what runs on them). An A5 is
// Atlas 950; the MX recipes of msmodelslim and vllm-ascend's nightly runs of
// them (GLM-5.1 w4a4c8) show sparse attention there.
var devices = []Device{
	{ID: "a100-40g", Vendor: "nvidia", Generation: "Ampere", Capability: 80, FP8: weightOnly, Int8: native},
	{ID: "a100-80g", Alias: []string{"a100", "a800"}, Vendor: "nvidia", Generation: "Ampere", Capability: 80, FP8: weightOnly, Int8: native},
	{ID: "l40s", Vendor: "nvidia", Generation: "Ada", Capability: 89, FP8: native, Int8: native},
	{ID: "rtx-4090", Vendor: "nvidia", Generation: "Ada", Capability: 89, FP8: native, Int8: native},
	{ID: "h100", Alias: []string{"h800"}, Vendor: "nvidia", Generation: "Hopper", Capability: 90, FP8: native, Int8: native, Sparse: sparseGPU},
	{ID: "h20-96g", Vendor: "nvidia", Generation: "Hopper", Capability: 90, FP8: native, Int8: native, Sparse: sparseGPU},
	{ID: "h20-141g", Alias: []string{"h20"}, Vendor: "nvidia", Generation: "Hopper", Capability: 90, FP8: native, Int8: native, Sparse: sparseGPU},
	{ID: "h200", Vendor: "nvidia", Generation: "Hopper", Capability: 90, FP8: native, Int8: native, Sparse: sparseGPU},
	{ID: "b200", Vendor: "nvidia", Generation: "Blackwell", Capability: 100, FP8: native, Sparse: sparseGPU},
	{ID: "gb200", Vendor: "nvidia", Generation: "Blackwell", Capability: 100, FP8: native, Sparse: sparseGPU},
	{ID: "b300", Vendor: "nvidia", Generation: "Blackwell", Capability: 103, FP8: native, Sparse: sparseGPU},
	{ID: "gb300", Vendor: "nvidia", Generation: "Blackwell", Capability: 103, FP8: native, Sparse: sparseGPU},
	{ID: "rtx-pro-6000", Vendor: "nvidia", Generation: "RTX Blackwell", Capability: 120, FP8: native, Int8: native, Sparse: sparseVLLM},
	{ID: "rtx-5090", Vendor: "nvidia", Generation: "RTX Blackwell", Capability: 120, FP8: native, Int8: native, Sparse: sparseVLLM},
	{ID: "mi300x", Vendor: "amd", Generation: "MI300", FP8: native, Sparse: sparseGPU},
	{ID: "mi325x", Vendor: "amd", Generation: "MI300", FP8: native, Sparse: sparseGPU},
	{ID: "mi355x", Vendor: "amd", Generation: "MI355", FP8: native, Sparse: sparseGPU},
	{ID: "ascend-a2", Alias: []string{"atlas-800-a2", "910b"}, Vendor: "huawei", Generation: "Atlas A2", FP8: none, Int8: native, Sparse: sparseHuawi},
	{ID: "ascend-a3", Alias: []string{"atlas-800-a3"}, Vendor: "huawei", Generation: "Atlas A3", FP8: none, Int8: native, Sparse: sparseHuawi},
	{ID: "ascend-950pr", Alias: []string{"ascend-a5", "atlas-950"}, Vendor: "huawei", Generation: "Atlas 950 (A5)", FP8: native, Int8: native,
		Sparse: sparseHuawi},
	{ID: "xeon", Vendor: "cpu", Generation: "CPUs", FP8: none, Int8: native},
}

// Devices lists the ids of all devices in the tables.
func Devices() []string {
	out := make([]string, len(devices))
	for i, d := range devices {
		out[i] = d.ID
	}
	return out
}

// FindDevice looks a device up by its id or another name of it. The error is
// an *UnknownError.
func FindDevice(id string) (Device, error) {
	id = strings.ToLower(id)
	for _, d := range devices {
		if d.ID == id || slices.Contains(d.Alias, id) {
			return d, nil
		}
	}
	return Device{}, &UnknownError{What: "hardware", Name: id, Known: Devices()}
}

// generations names the devices in the words of reports.
func generations(list []Device) string {
	var out []string
	for _, d := range list {
		if !slices.Contains(out, d.Generation) {
			out = append(out, d.Generation)
		}
	}
	return strings.Join(out, ", ")
}

// The conditions of rows on devices.
func nvidia(d Device) bool   { return d.Vendor == "nvidia" }
func amd(d Device) bool      { return d.Vendor == "amd" }
func cpu(d Device) bool      { return d.Vendor == "cpu" }
func gpu(d Device) bool      { return d.Vendor == "nvidia" || d.Vendor == "amd" }
func npu(d Device) bool      { return d.Vendor == "huawei" }
func atlas950(d Device) bool { return d.ID == "ascend-950pr" }
func olderNPU(d Device) bool { return npu(d) && !atlas950(d) }

func capable(least int) func(Device) bool {
	return func(d Device) bool { return nvidia(d) && d.Capability >= least }
}

func below(least int) func(Device) bool {
	return func(d Device) bool { return nvidia(d) && d.Capability < least }
}

func withFP8(how ...support) func(Device) bool {
	return func(d Device) bool { return gpu(d) && slices.Contains(how, d.FP8) }
}
func withInt8(d Device) bool { return d.Int8 == native }

func either(a, b func(Device) bool) func(Device) bool {
	return func(d Device) bool { return a(d) || b(d) }
}
