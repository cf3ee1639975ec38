// Package jinja runs chat templates as Python's Jinja2 runs them under
// transformers: an immutable sandbox, trim_blocks and lstrip_blocks on, the
// loopcontrols extension, the generation tag, tojson as json.dumps with
// ensure_ascii=False.
//
//	t, err := jinja.Parse(source)
//	text, err := t.Render(ctx, map[string]any{"messages": jinja.NewList(…)}, time.Now())
//	text.String()              // what Jinja2 prints, byte for byte
//	text.Foreign(i)            // did byte i come from the variables?
//
// # Provenance
//
// A [Text] remembers for every byte whether the template wrote it or a
// variable brought it along, through slices, joins, splits, replacements and
// case changes. That is what keeps the text of a user from becoming a role
// marker while templates still see exactly the text that they see in Python,
// and it is why no general engine serves here.
//
// # Values
//
// Variables are nil (None), bool, int64, *big.Int (integers beyond 64 bits),
// float64, [Text], *[List] and *[Dict]. Undefined, namespaces, macros and
// loops exist inside a rendering only. Printing, comparing, slicing and
// the methods of strings follow Python 3, positions count code points.
//
// # Limits
//
// A template cannot reach files, other templates or attributes of the host
// language. Nesting, steps, and the bytes that a rendering makes are bounded:
// [ErrLimit]. Steps are statements, iterations and calls, and what each of them
// looks at: every value that is printed, compared, sorted, hashed or searched,
// however often it is shared, and every text by its length. The same counting
// asks the context of a rendering whether to go on. Anything else that goes
// wrong is an [Error] with a line.
//
// Source: Jinja2 3.1 (lexer, parser, filters and tests as documented at
// jinja.palletsprojects.com), transformers' chat_template_utils.
package jinja
