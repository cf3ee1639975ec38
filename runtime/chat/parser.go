package chat

import (
	"strings"

	"github.com/glmconv/glmconv/internal/lazy"
)

// Call is a tool call of an answer.
type Call struct {
	Name      string
	Arguments *Object // in the order in which the model wrote them; Dumps gives the JSON
}

// Delta is what a piece of an answer adds. Text is given as soon as it cannot
// be part of a tag, calls when they are complete.
type Delta struct {
	Reasoning, Content string
	Calls              []Call
}

func (d *Delta) add(o Delta) {
	d.Reasoning += o.Reasoning
	d.Content += o.Content
	d.Calls = append(d.Calls, o.Calls...)
}

type state int

const (
	undecided state = iota
	inReasoning
	inContent
	inCall
)

const (
	openThink, closeThink = "<think>", "</think>"
	openCall, closeCall   = "<tool_call>", "</tool_call>"
)

var tags = []string{openThink, closeThink, openCall}

// Parser reads one answer, in pieces of any size: the glm45 and glm47 forms of
// tool calls, and reasoning by the prompt's ending (docs/facts/families.md 9.2,
// 10). It is not safe for concurrent use.
type Parser struct {
	tools   []*Object
	state   state
	buf     string // not yet given out
	started bool   // something was given out since the last tag
	scanned int    // bytes of buf without closeCall
}

// NewParser returns a parser for the answer to a prompt. The prompt's ending
// says where the answer starts: after <think> in reasoning, after </think> in
// content; after anything else the answer itself decides. Tools give the types
// of arguments and may be nil.
func NewParser(prompt string, tools []*Object) *Parser {
	p := &Parser{tools: tools}
	switch {
	case strings.HasSuffix(prompt, openThink):
		p.state = inReasoning
	case strings.HasSuffix(prompt, closeThink):
		p.state = inContent
	}
	return p
}

// Add takes the next piece of the answer.
func (p *Parser) Add(piece string) Delta {
	p.buf += piece
	var out Delta
	for p.step(&out) {
	}
	return out
}

// Finish ends the answer. truncated tells that it ended within a tool call,
// which is then not reported: the answer met its length limit.
func (p *Parser) Finish() (out Delta, truncated bool) {
	if p.state == undecided {
		p.state = inContent
	}
	switch p.state {
	case inCall:
		truncated = true
	case inReasoning:
		p.emit(&out, strings.TrimRight(p.buf, "\n"))
	default:
		p.emit(&out, p.buf)
	}
	p.buf = ""
	return out, truncated
}

// step consumes what it can and reports whether to go on.
func (p *Parser) step(out *Delta) bool {
	switch p.state {
	case undecided:
		text := strings.TrimLeft(p.buf, " \t\r\n")
		if len(text) < len(openThink) && strings.HasPrefix(openThink, text) {
			return false
		}
		p.state = inContent
		if strings.HasPrefix(text, openThink) {
			p.buf, p.state = text[len(openThink):], inReasoning
		}
		return true
	case inCall:
		i := strings.Index(p.buf[p.scanned:], closeCall)
		if i < 0 {
			p.scanned = max(0, len(p.buf)-len(closeCall)+1)
			return false
		}
		i += p.scanned
		out.Calls = append(out.Calls, p.call(p.buf[:i]))
		p.enter(inContent, p.buf[i+len(closeCall):])
		return true
	}
	at, tag := -1, ""
	for _, t := range tags {
		if i := strings.Index(p.buf, t); i >= 0 && (at < 0 || i < at) {
			at, tag = i, t
		}
	}
	if at < 0 {
		keep := held(p.buf)
		p.emit(out, p.buf[:len(p.buf)-keep])
		p.buf = p.buf[len(p.buf)-keep:]
		return false
	}
	text := p.buf[:at]
	if p.state == inReasoning {
		text = strings.TrimRight(text, "\n")
	} else if tag == openCall {
		text = strings.TrimRight(text, space)
	}
	p.emit(out, text)
	next := map[string]state{openThink: inReasoning, closeThink: inContent, openCall: inCall}[tag]
	if p.state == inReasoning && tag == openThink {
		next = inReasoning // a leading <think> although the prompt had it
	}
	p.enter(next, p.buf[at+len(tag):])
	return true
}

const space = " \t\r\n"

func (p *Parser) enter(s state, rest string) {
	p.state, p.buf, p.started, p.scanned = s, rest, false, 0
}

// emit gives text out, without newlines at the beginning of a stretch.
func (p *Parser) emit(out *Delta, text string) {
	if !p.started {
		text = strings.TrimLeft(text, "\n")
	}
	if text == "" {
		return
	}
	p.started = true
	if p.state == inReasoning {
		out.Reasoning += text
	} else {
		out.Content += text
	}
}

// held is the length of the suffix that may still become, or be trimmed
// before, a tag: white space followed by the beginning of a tag.
func held(s string) int {
	keep := 0
	for _, t := range tags {
		for n := min(len(t)-1, len(s)); n > keep; n-- {
			if strings.HasSuffix(s, t[:n]) {
				keep = n
				break
			}
		}
	}
	return len(s) - len(strings.TrimRight(s[:len(s)-keep], space))
}

var pair = lazy.Regexp(`(?s)<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>`)

func (p *Parser) call(body string) Call {
	end := len(body)
	for _, stop := range []string{"<arg_key>", "</arg_value>"} {
		if i := strings.Index(body, stop); i >= 0 {
			end = min(end, i)
		}
	}
	// A newline ends the name, unless it stands in front of it.
	name := strings.TrimLeft(body[:end], space)
	name, _, _ = strings.Cut(name, "\n")
	c := Call{Name: strings.TrimSpace(name), Arguments: NewObject()}
	schema := parameters(p.tools, c.Name)
	for _, m := range pair().FindAllStringSubmatch(body, -1) {
		key := strings.TrimSpace(m[1])
		c.Arguments.Set(key, typed(m[2], schema, key))
	}
	return c
}
