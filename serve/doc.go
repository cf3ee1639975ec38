// Package serve answers OpenAI's routes with the bundled runtime, so that
// clients, benchmarks and verifiers can be run on one machine without an
// accelerator. It is a reference: right, bounded, and honest about what it does
// not do.
//
//	s, err := serve.New(dir, serve.Options{})
//	err = http.Serve(listener, s.Handler())
//	s.Close()
//
// A [Gate] answers in the server's place while New loads.
//
// # One answer, alone or in company
//
// A step of the scheduler computes one row for every sequence that is being
// decoded and at most one chunk of a prompt, in one pass of the model. Since
// the logits of a token do not depend on what else is in the pass (package
// runtime), a request gets the same bytes whoever else is served.
//
// With [Options.Speculative] the MTP layer drafts, and the text stays the same.
//
// Requests are taken in order, as long as there are places and the cache's
// budget has pages for the prompt; others wait, and beyond the queue they are
// told to come back (429). When pages run out the request that came last gives
// its own back, waits, and is read again, to the same text. What the budget has
// left keeps sequences that are done: a prompt that begins as one of them is not read again, but for
// requests that ask for log-probabilities of the prompt. A client that is gone
// leaves before the next step.
//
// # Pictures and clips
//
// They come as data: URLs, from the network, or from one folder
// ([MediaOptions]). The address that is dialled is looked at, not the name:
// networks that are not the public internet are refused, for every redirect.
//
// # Answers of a form
//
// response_format (json_object, json_schema) and tool_choice (required, or a
// function) leave the model only those tokens that lead to such an answer
// (package runtime/grammar), behind its reasoning. A schema with a keyword that
// cannot be kept is refused with the keyword's name, never answered as if it had
// not been asked for.
package serve
