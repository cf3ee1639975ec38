// Package chat turns conversations into prompts and answers into messages.
//
//	tmpl, err := chat.Load("GLM-4.5-Air")            // chat_template.jinja, or the one in tokenizer_config.json
//	msgs, err := chat.ParseMessages(data)            // [{"role":"user","content":"…"}, …], key order kept
//	prompt, err := tmpl.Render(chat.Request{Messages: msgs, Thinking: chat.ThinkingOn})
//	ids := prompt.Encode(tok)
//
// # Rendering
//
// The checkpoint's own template is run, as transformers runs it: trim_blocks
// and lstrip_blocks on, loop controls, tojson like Python's json.dumps with
// ensure_ascii=False, objects in the order in which they were written. The
// engine is gonja; a template cannot reach files or other templates, its
// output and its loops are bounded.
//
// # Text is never a marker
//
// A user who types <|system|> must not open a system turn. Strings of messages
// and tools are marked before they are rendered: a private character, absent
// from the input, follows each character with which a marker could begin.
// After rendering, markers are recognised in what the template wrote, the
// private characters are removed, and the rest is tokenised as ordinary text.
// Only <think> and </think> in an assistant's content remain what they are:
// templates split on them.
//
// # Answers
//
// Parser takes the answer piece by piece and gives reasoning, content and tool
// calls (architectures.md sections 9 and 10); where the pieces are cut makes
// no difference.
package chat
