// Package endpoint says whether a live server answers like the checkpoint that it
// serves, and whose fault it is if it does not.
//
//	r, err := endpoint.Verify(ctx, "Air-w8a8", "", endpoint.Options{URLs: []string{"http://127.0.0.1:8000"}})
//	r, err = endpoint.Verify(ctx, "GLM-4.5-Air", "Air-w8a8", o) // original, and what is served
//	fmt.Print(r.Text())
//
// # What is compared
//
// Never generated text: the log-probabilities that the server gives the tokens
// of fixed prompts ([Places]) against those of the bundled runtime on the same
// ids. Servers say them in five forms ([Kind]): vLLM's prompt_logprobs, SGLang's
// /generate, the echo of llama-cpp-python, one request a place of llama-server,
// and those of `glmconv serve`, which are vLLM's.
//
// A server names only its K most likely tokens. Of p (the runtime, all of the
// vocabulary) and q (the server, K tokens) the divergence of the distributions
// with the rest put together is a lower bound of KL(p‖q); the mean share of p in
// that rest stands beside it, and where it is large the verdict is undecided.
//
// # What is allowed
//
// An engine rounds to BF16 where the runtime does not. How much that matters
// depends on the model, so that it is measured: the runtime against itself with
// its residual stream rounded after every layer, and the server against itself
// asked twice.
//
// # Whose fault
//
//	server ~ runtime   runtime ~ original
//	yes                yes                  pass
//	yes                no                   the file: what verify finds of the two folders
//	no                 yes                  the engine, or it serves something else
//	no                 no                   both
//
// What a server that strays does instead is tried out: the runtime computes the
// checkpoint with faults that engines have had (a router bias lost, another
// rotary width, no scaling of experts), and the one whose figures are the
// server's is named.
//
// # A server is a stranger
//
// Answers are bounded, their shapes and values are checked, redirects are not
// followed, and URLs are printed without credentials.
package endpoint
