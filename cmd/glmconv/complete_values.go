package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/recipe"
	"github.com/glmconv/glmconv/verify/endpoint"
)

// flagValues are the values of flags that have a list of them, by "command/flag"
// or, for all commands that have it, by "flag".
var flagValues = map[string]func() []string{
	"arith":             words("best", "compat"),
	"backend":           words("openai-chat", "openai", "sglang"),
	"bench/json-style":  words("glmconv", "vllm", "sglang"),
	"bench/report":      words("vllm", "sglang", "table"),
	"dataset":           words("random", "sharegpt", "image", "jsonl"),
	"engine":            engineNames,
	"recipe/engine":     func() []string { return append([]string{"all"}, engineNames()...) },
	"fold":              words("off", "gamma", "search"),
	"format":            func() []string { return texts(layout.Formats) },
	"recipe/goal":       func() []string { return texts(recipe.Goals) },
	"group-size":        words("32", "64", "128", "channel"),
	"hardware":          engine.Devices,
	"recipe/hardware":   deviceCounts,
	"kv":                words("c8"),
	"kv-dtype":          words("auto", "bf16", "fp8"),
	"log-format":        words("text", "json"),
	"log-level":         words("debug", "info", "warn", "error"),
	"method":            words("auto", "search", "gptq"),
	"recipe/model":      glm.Presets,
	"mtp":               words("auto", "quantize", "float", "drop"),
	"recipe/out":        func() []string { return texts(recipe.Forms) },
	"plan/recipe":       publishedRecipes,
	"quantize/recipe":   publishedRecipes,
	"print-command":     words("vllm", "sglang"),
	"progress":          words("auto", "bar", "line", "json", "none"),
	"range-style":       words("vllm", "sglang"),
	"reasoning-field":   words("both", "reasoning", "reasoning_content"),
	"reference":         words("source", "weights"),
	"rest":              words("bf16", "fp8", "int8", "same"),
	"recipe/scheme":     func() []string { return texts(layout.Schemes) },
	"score":             words("exact", "number", "choice"),
	"scenario":          words("all", "chat", "reasoning", "summarization", "all@quick", "all@stable"),
	"scheme":            func() []string { return texts(layout.Schemes) },
	"source-check":      words("auto", "full", "off"),
	"topology":          words("single", "multi", "pd"),
	"quantize/index":    words("auto"),
	"verify/index":      words("auto"),
	"recipe/mtp":        nil, // a number
	"logits/mtp":        nil,
	"bench/model":       nil, // a name that the server gives
	"verify/model":      nil,
	"endpoint-kind":     func() []string { return texts(endpoint.Kinds) },
	"bench/temperature": nil,
}

// pathFlags hold a path though their usage names no `FILE` or `DIR`; true: a folder.
var pathFlags = map[string]bool{
	"dataset-path": false, "save-json": false, "demo/report": false, "demo/out": true, "from": true, "mtp-remap/out": true, "repair/out": true, "out-dir": true,
	"scratch": true, "tokenizer": true, "against": false, "bench/html": false,
}

// freeFlags take what no list can hold: numbers, sizes, texts, names of others.
var freeFlags = []string{
	"account", "allow-media-domain", "api-key-env", "array-limit", "bandwidth", "base", "budget", "burstiness", "cache-size", "concurrency", "connections", "cors-origin", "count", "cpus", "decode", "dp", "endpoint", "ep",
	"extra-body", "fail-under", "goodput", "gpus", "grace", "host", "ignore", "image-count", "image-size", "index", "input-len", "interface", "layer", "max-body", "max-logprobs", "max-memory", "max-model-len",
	"max-num-seqs", "max-queue", "max-tokens", "mem", "metric", "model", "mtp", "namespace", "node-ip", "num-prompts", "output-len", "partition", "parts", "percentiles",
	"port", "pp", "prefill", "prefix-len", "prompt", "prompt-ids", "pvc", "queue", "range-ratio", "ready-timeout", "reasoning", "repeat", "request-rate", "retry-for", "secret", "seed",
	"seq-len", "served-model-name", "service-account", "shard-size", "speculative", "sse-ping", "submit/image", "submit/scratch", "recipe/image", "system", "target", "target-kl", "temperature",
	"time", "timeout", "tokens", "tol", "recipe/tools", "top-k", "top-logprobs", "top-p", "tp", "video-fps", "warmup", "workers",
}

func words(list ...string) func() []string { return func() []string { return list } }

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// engineNames are the engines, and each with its releases, newest first.
func engineNames() []string {
	out := texts(engine.Engines)
	for _, e := range engine.Engines {
		releases := engine.Releases(e)
		for i := len(releases) - 1; i >= 0; i-- {
			out = append(out, string(e)+"@"+releases[i].Version)
		}
	}
	return out
}

func deviceCounts() []string {
	out := engine.Devices()
	for i := range out {
		out[i] += ":"
	}
	return append(out, "custom:")
}

func publishedRecipes() []string {
	out := make([]string, len(quant.Recipes))
	for i, r := range quant.Recipes {
		out[i] = r.Name
	}
	return out
}

// valueKind is what a flag's value is.
type valueKind int

const (
	freeValue valueKind = iota
	listValue
	fileValue
	folderValue
)

// valuesOf says what the value of a command's flag can be.
func valuesOf(command string, f cli.Flag) (valueKind, []string) {
	name := f.Names()[0]
	for _, key := range []string{command + "/" + name, name} {
		if list, ok := flagValues[key]; ok {
			if list == nil {
				return freeValue, nil
			}
			return listValue, list()
		}
		if folder, ok := pathFlags[key]; ok {
			return map[bool]valueKind{true: folderValue, false: fileValue}[folder], nil
		}
		if slices.Contains(freeFlags, key) && key != name {
			return freeValue, nil
		}
	}
	switch placeholder(f) {
	case "FILE":
		return fileValue, nil
	case "DIR":
		return folderValue, nil
	}
	return freeValue, nil
}

// placeholder is the word between backquotes in a flag's usage.
func placeholder(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	_, rest, _ := strings.Cut(d.GetUsage(), "`")
	word, _, _ := strings.Cut(rest, "`")
	return word
}
