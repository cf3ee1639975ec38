package safetensors

// ProblemKind is a class of findings.
type ProblemKind string

// The findings about a directory.
const (
	// ProblemError is an error that OpenDir would have returned; Err is set.
	// It occurs with Options.AllErrors only.
	ProblemError ProblemKind = "error"
	// ProblemUnlisted is a *.safetensors file that the index does not list. An
	// unlisted mtp.safetensors is read, any other is not; engines that take
	// every *.safetensors file load both.
	ProblemUnlisted ProblemKind = "unlisted"
	// ProblemUnindexed is a tensor in a listed shard that the index does not
	// list. It is among the tensors of the checkpoint.
	ProblemUnindexed ProblemKind = "unindexed"
	// ProblemSecondIndex is an index file that is not the one in use. Engines
	// may follow it: vLLM ignores shards that a model.safetensors.index.json
	// does not list.
	ProblemSecondIndex ProblemKind = "second-index"
	// ProblemTotalSize is a total_size that is not the sum of the tensors.
	ProblemTotalSize ProblemKind = "total-size"
	// ProblemNoIndex is a set of several shards without an index.
	ProblemNoIndex ProblemKind = "no-index"
	// ProblemLeftover is a temporary file of an interrupted run.
	ProblemLeftover ProblemKind = "leftover"
)

// Problem is a finding about a directory that need not stop a reader.
type Problem struct {
	Kind   ProblemKind
	File   string // base name
	Tensor string // "" if no single tensor is concerned
	Detail string // a sentence
	Err    error  // the typed error of a ProblemError, else nil
	// Repeats: every tensor of an unlisted file is in a listed one too.
	Repeats bool
}
