// Package grammar says which tokens may come next in a text that has to have a
// form: JSON, JSON of a schema, a tool call.
//
//	e, err := grammar.Schema(v)          // of a JSON schema; grammar.JSONObject() is any object
//	g := grammar.New(e)
//	w := grammar.NewWords(tok.MaxID()+1, text)
//	st := g.Start()
//	allowed := g.Mask(st, w)             // bits by token id
//	st = g.Token(st, w, id)              // nil: the token was not allowed
//	st.Done()                            // the text may end here
//
// A grammar is a pushdown automaton over bytes. Its states (sets of stacks) are
// found when they are met, and kept with their successors, so that a second
// token of a string costs a look-up for each byte of the vocabulary. Added
// tokens of a vocabulary are symbols of their own ([Mark]): no text becomes one.
//
// # Schemas
//
// type, enum, const, properties, required, additionalProperties, items,
// minItems, maxItems, minLength, maxLength, anyOf, allOf of one schema, $ref
// within the schema, format of dates, times and UUIDs. Annotations (title,
// description, default, examples and the like) say nothing about the value. Any
// other keyword is an [Error] that names it: a schema is kept in full or refused.
//
// Properties are written in the order in which the schema has them, others only
// where it declares none. Between values there is at most a space, or a line with
// at most twenty spaces, and numbers have at most eighteen digits, so that a
// model which never ends cannot fill an answer with either.
//
// The method is that of llama.cpp's grammars (stacks of positions) with the
// states of Willard and Louf, "Efficient Guided Generation for Large Language
// Models" (2023).
package grammar
