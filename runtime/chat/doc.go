// Package chat turns conversations into prompts and answers into messages.
//
//	tmpl, err := chat.Load("GLM-4.5-Air")            // chat_template.jinja, or the one in tokenizer_config.json
//	msgs, err := chat.ParseMessages(data)            // [{"role":"user","content":"…"}, …], key order kept
//	prompt, err := tmpl.Render(ctx, chat.Request{Messages: msgs, Thinking: chat.ThinkingOn})
//	ids := prompt.Encode(tok)
//
// # Rendering
//
// The checkpoint's own template is run, and prints what Jinja2 prints under
// transformers, byte for byte: package jinja beneath this one.
//
// # Text is never a marker
//
// A user who types <|system|> must not open a system turn. The engine keeps for
// every byte whether the template wrote it or a message or tool brought it
// along. Markers are recognised only where the template wrote all of them; the
// rest is tokenised as ordinary text. What counts as the template's all the
// same: the roles that GLM knows; <think> and </think> in an assistant's content,
// which models write and templates split on; /nothink at the end of a user's
// text, the switch that GLM-4.5 templates look for there.
//
// # Answers
//
// Parser takes the answer piece by piece and gives reasoning, content and tool
// calls (docs/facts/families.md 9, 10); where the pieces are cut makes
// no difference.
package chat
