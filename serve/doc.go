// Package serve answers OpenAI's routes with the bundled runtime, so that
// clients, benchmarks and verifiers can be run on one machine without an
// accelerator. It is a reference: right, bounded, and honest about what it does
// not do.
//
//	s, err := serve.New(dir, serve.Options{})
//	err = http.Serve(listener, s.Handler())
//	s.Close()
//
// # One answer, alone or in company
//
// A step of the scheduler computes one row for every sequence that is being
// decoded and at most one chunk of a prompt, in one pass of the model. Since
// the logits of a token do not depend on what else is in the pass (package
// runtime), a request gets the same bytes whoever else is served.
//
// Requests are taken in order, as long as there are places and the cache's
// budget holds prompt and answer in full; others wait, and beyond the queue
// they are told to come back (429). A client that is gone leaves before the
// next step.
//
// # What it does not do
//
// Pictures and clips, several choices (n), penalties, biases, constrained
// answers, drafts and prefix caching: a request that asks for one of them is
// refused with the field's name, never answered as if it had not asked.
package serve
