// Package glm knows the GLM model families: what their config.json says,
// which tensors a checkpoint holds, how these are shaped and what each is for.
// It is the only package that parses or builds tensor names of the models;
// everything else decides on roles.
//
// # From a directory to a model
//
//	cfg, err := glm.LoadConfig(dir)          // either config generation, checked
//	err = cfg.RequireUnquantized()           // where full precision is wanted
//	model, err := glm.Describe(cfg, infos)   // infos: the headers of all shards
//
// A [Config] has one name for each fact. ParseConfig takes the naming of
// transformers 4 and 5, fills in what the published files leave out, and
// refuses with a [ConfigError] what it does not know: it never guesses a rope
// base, an activation or a router. Contradictions that engines resolve in
// different ways become Notes.
//
// [Config.Table] is every tensor the checkpoint should hold, in natural order.
// [Describe] compares it with what is stored, by exact name and shape, and
// returns a [Model]: entries in table order, what is missing, what is
// unexpected, the state of the MTP layer. [Survey] does the same for
// checkpoints that may be quantised or damaged, and never fails.
//
// # Roles and groups
//
// A [Role] says what a tensor does. Tensors with the same Group become one
// fused parameter in the serving engines and must be quantised alike:
//
//	<layer>.self_attn.qkv_proj                 q_proj k_proj v_proj
//	<layer>.self_attn.fused_qkv_a_proj         q_a_proj kv_a_proj_with_mqa
//	<layer>.mlp.gate_up_proj                   gate_proj up_proj of a dense layer
//	<layer>.mlp.shared_experts.gate_up_proj    the same of the shared expert
//	<layer>.mlp.experts                        all routed experts, all projections
//
// # Stacked experts
//
// Models saved by transformers 5 may hold experts.gate_up_proj [E, 2M, H] and
// experts.down_proj [E, H, M] instead of a tensor for each expert. A Model
// lists them under the per-expert names all the same: Entry.Source is then the
// stacked tensor and Entry.Offset where the expert's rows start in its data.
//
// # MTP layers
//
// Multi-token-prediction layers follow the decoder layers: number N =
// num_hidden_layers and on. They are full decoder layers with experts, plus
// enorm, hnorm, eh_proj and shared_head.norm. Copies of embedding and head are
// stored by some releases only (Tensor.Optional).
//
// # Adding a family
//
// A family is a table of rows: name pattern, role, shape expression, condition,
// group. The symbols of shape expressions are listed in expr.go. Write the
// table in a file family_<name>.go, register it in families (table.go), add its
// config fields to ParseConfig, and a preset with the published counts to the
// tests.
package glm
