// Package recipe decides how a checkpoint is served: which degrees of
// parallelism on which devices, with which flags, and whether that loads, fits
// and computes what it should. It reads no weights and starts nothing.
//
//	m, err := recipe.Open(ctx, "GLM-4.5-Air-w8a8")        // or Published("glm-5", "w4a8", "")
//	hw, err := recipe.ParseHardware("a100-80g:4")
//	r, err := recipe.Decide(recipe.Query{Model: m, Release: engine.Newest(engine.SGLang), Hardware: hw})
//	if r.Refused != nil { … }                             // the rule, its source, the nearest recipe that works
//	text, err := r.Render("command")                      // or script, docker, compose, k8s, lws, systemd, env, json
//	err = recipe.WriteHTML(w, recipe.Query{Model: m, MTP: recipe.AutoMTP})    // one page of all devices, engines and goals
//
// # One decision
//
// Decide is one function over tables and rules. Everything printed is a
// rendering of its value: nothing is decided in a template.
//
// Candidates are all degrees that use the devices exactly. Each meets the
// rules in order; the first complaint refuses it. Of those that pass, the goal
// chooses: the largest degree within a node for latency, the smallest that
// leaves a quarter of the memory to the cache for throughput, the largest
// number of tokens for long contexts. A cell of the tables, a set-up that
// somebody published, gives hints (batch limits, back ends, length of drafts)
// and breaks ties; its degrees are judged like all others.
//
// # Memory
//
// See memory.go. Figures are estimates with an error of 6 % of a device; a
// result inside of it is called tight.
//
// # Tables
//
// data/*.yaml: devices and cells with their status (verified there, carried
// over, derived here) and source. What loads is in quant/engine.
package recipe
