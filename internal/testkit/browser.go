package testkit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Page is a page in a headless Chromium, driven by its DevTools protocol over
// pipes.
type Page struct {
	tb      testing.TB
	to      *os.File
	from    *bufio.Reader
	session string
	calls   int
}

// patience is how long a browser may take for anything.
const patience = time.Minute

// OpenPage shows a file; the test is skipped where there is no Chromium (Tool).
func OpenPage(tb testing.TB, path string) *Page {
	tb.Helper()
	browser := Tool(tb, "chromium", "the page is not walked")
	hears, to := pipe(tb)
	from, says := pipe(tb)
	cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-features=IsolateSandboxedIframes", // a frame in a process of its own gets the focus some time after the key
		"--remote-debugging-pipe", "--user-data-dir="+tb.TempDir())
	cmd.ExtraFiles = []*os.File{hears, says} // 3 and 4, as the flag has it
	if err := cmd.Start(); err != nil {
		tb.Fatalf("%s: %v", browser, err)
	}
	_, _ = hears.Close(), says.Close()
	p := &Page{tb: tb, to: to, from: bufio.NewReader(from)}
	tb.Cleanup(func() {
		if p.session != "" {
			p.session = ""
			p.Call("Browser.close", nil)
		}
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_, _, _ = cmd.Wait(), to.Close(), from.Close()
	})
	var target struct{ TargetID, SessionID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	p.session = target.SessionID
	p.Call("Page.enable", nil)
	p.Call("Page.navigate", map[string]any{"url": "file://" + path})
	p.Until(`document.readyState === "complete" && location.protocol === "file:"`)
	return p
}

func pipe(tb testing.TB) (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	return r, w
}

// Call calls a method of the protocol and drops what it returns.
func (p *Page) Call(method string, params map[string]any) { p.call(method, params, nil) }

func (p *Page) call(method string, params map[string]any, into any) {
	p.tb.Helper()
	p.calls++
	m := map[string]any{"id": p.calls, "method": method, "params": params}
	if params == nil {
		m["params"] = map[string]any{}
	}
	if p.session != "" {
		m["sessionId"] = p.session
	}
	data, err := json.Marshal(m)
	if err != nil {
		p.tb.Fatal(err)
	}
	if _, err := p.to.Write(append(data, 0)); err != nil {
		p.tb.Fatalf("%s: %v", method, err)
	}
	for {
		line, err := p.from.ReadBytes(0)
		if err != nil {
			p.tb.Fatalf("%s: the browser ended: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(bytes.TrimRight(line, "\x00"), &answer); err != nil {
			p.tb.Fatalf("%s: %v", method, err)
		}
		if answer.ID != p.calls {
			continue // an event
		}
		if answer.Error != nil {
			p.tb.Fatalf("%s: %s", method, answer.Error.Message)
		}
		if into != nil {
			if err := json.Unmarshal(answer.Result, into); err != nil {
				p.tb.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// Eval is the value of a JavaScript expression.
func (p *Page) Eval(expression string, into any) {
	p.tb.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		p.tb.Fatalf("%s: %s", expression, r.ExceptionDetails.Exception.Description)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(r.Result.Value, into); err != nil {
		p.tb.Fatalf("%s: %q: %v", expression, r.Result.Value, err)
	}
}

// Until waits for a condition of the page.
func (p *Page) Until(condition string) {
	p.tb.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var met bool
		if p.Eval(condition, &met); met {
			return
		}
		if time.Now().After(end) {
			p.tb.Fatalf("the page never came to: %s", condition)
		}
	}
}

// View sets the size of the window and the colours that the reader prefers.
func (p *Page) View(width, height int, scheme string) {
	p.tb.Helper()
	p.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
	p.Call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
}

// Views are the windows in which a page is walked.
var Views = []struct {
	Width, Height int
	Scheme        string
}{{1280, 800, "light"}, {375, 700, "dark"}}

// keys are the codes of the keys that Press takes, and the text that they make.
var keys = map[string]struct {
	code int
	text string
}{"Tab": {9, ""}, "Enter": {13, "\r"}, " ": {32, " "}, "ArrowLeft": {37, ""}, "ArrowUp": {38, ""}, "ArrowRight": {39, ""}, "ArrowDown": {40, ""}}

// Press presses a key, by its name in events: "Tab", "Enter", " ", "ArrowDown".
func (p *Page) Press(key string) {
	p.tb.Helper()
	k, ok := keys[key]
	if !ok {
		p.tb.Fatalf("no key %q", key)
	}
	down := map[string]any{"type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": k.code}
	if key == " " {
		down["code"] = "Space"
	}
	if k.text != "" {
		down["type"], down["text"] = "keyDown", k.text
	}
	p.Call("Input.dispatchKeyEvent", down)
	p.Call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": down["code"], "windowsVirtualKeyCode": k.code})
}

// Stop is a place where Tab stops.
type Stop struct {
	At      int    // among all elements
	Tag     string // "button", "input", "summary", "a", "pre", …
	Name    string
	Ring    string  // what is drawn around it; "": nothing
	Against float64 // contrast of the ring with what is behind it
	Seen    bool    // nothing lies over it
	Others  bool    // of a radio button: there are others to choose
}

func (s Stop) String() string { return fmt.Sprintf("%s %q", s.Tag, s.Name) }

// helpers are functions that Walk calls in the page.
const helpers = `
window.walk = {
  all: () => [...document.querySelectorAll("*")],
  stops: () => walk.all().filter(e => e.matches("a[href],button,input,select,textarea,summary,iframe,[tabindex]") && e.tabIndex >= 0 && !e.disabled && e.checkVisibility())
    .filter(e => e.type !== "radio" || e.checked || !document.querySelector('input[name="' + e.name + '"]:checked')).map(e => walk.all().indexOf(e)),
  top: () => { const b = document.body; getSelection().removeAllRanges(); b.tabIndex = -1; b.focus(); b.removeAttribute("tabindex"); scrollTo(0, 0); return true; },
  rgb: s => s.match(/[\d.]+/g).map(Number),
  behind: e => { for (e = e.parentElement; e; e = e.parentElement) { const c = walk.rgb(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; },
  light: c => { const l = c.slice(0, 3).map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; },
  contrast: (a, b) => { const [x, y] = [walk.light(a), walk.light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); },
  here: () => {
    const e = document.activeElement;
    if (!e || e === document.body) return null;
    const drawn = [e, e.nextElementSibling].filter(Boolean).find(x => { const s = getComputedStyle(x); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; });
    const r = e.getBoundingClientRect(), x = Math.min(Math.max(r.left + r.width / 2, 1), innerWidth - 1), y = Math.min(Math.max(r.top + Math.min(r.height / 2, 12), 1), innerHeight - 1);
    const over = document.elementFromPoint(x, y);
    return { At: walk.all().indexOf(e), Tag: e.tagName.toLowerCase(), Name: (e.getAttribute("aria-label") || e.textContent || e.value || "").trim().slice(0, 40),
      Others: e.type === "radio" && document.querySelectorAll('input[name="' + e.name + '"]:enabled').length > 1,
      Ring: drawn ? getComputedStyle(drawn).outlineColor : "", Against: drawn ? walk.contrast(walk.rgb(getComputedStyle(drawn).outlineColor), walk.behind(e)) : 0,
      Seen: r.width > 0 && r.bottom > 0 && r.top < innerHeight && !!over && (e.contains(over) || over.contains(e) || e.parentElement.contains(over)) };
  },
};
window.clicks = 0;
document.addEventListener("click", () => { window.clicks++; }, true);
true`

// Walk goes through a page with Tab, from its beginning to where it leaves, and
// presses Enter and Space on what takes them. Every stop is shown with a ring of
// 3:1 against its ground and lies under nothing, the order is that of the page,
// nothing is wider than the window, and a key does what a click would. A frame is one
// stop, which Tab enters and leaves.
func (p *Page) Walk() []Stop {
	tb := p.tb
	tb.Helper()
	p.Eval(helpers, nil)
	var wide [2]int
	if p.Eval("[document.scrollingElement.scrollWidth, innerWidth]", &wide); wide[0] > wide[1] {
		tb.Errorf("the page is %d pixels wide, the window %d", wide[0], wide[1])
	}
	p.Eval("walk.top()", nil)
	var want []int
	p.Eval("walk.stops()", &want)
	var out []Stop
	for s := p.next(nil); s != nil && len(out) <= len(want); s = p.next(s) {
		out = append(out, *s)
		if s.Tag != frame && (s.Ring == "" || s.Against < 3) {
			tb.Errorf("%v: focus is not seen (ring %q, contrast %.1f)", s, s.Ring, s.Against)
		}
		if !s.Seen {
			tb.Errorf("%v: something lies over it, or it is out of sight", s)
		}
	}
	at := make([]int, len(out))
	for i := range out {
		at[i] = out[i].At
	}
	if fmt.Sprint(at) != fmt.Sprint(want) {
		tb.Errorf("Tab stops at %v\nand not at the places %v of the page", out, want)
	}
	p.Eval("walk.top()", nil)
	var s *Stop
	for range out {
		if s = p.next(s); s == nil {
			tb.Errorf("keys that were pressed take stops away: they were %v", out)
			break
		}
		p.works(s)
	}
	return out
}

// frame is a page within the page: it shows itself where the focus is, and is walked
// by a test of its own.
const frame = "iframe"

// maxFrame is how many stops a frame may have.
const maxFrame = 200

// next presses Tab and is where it stops then; the stops within a frame are one. nil:
// it has left the page.
func (p *Page) next(last *Stop) (s *Stop) {
	p.tb.Helper()
	for range maxFrame {
		p.Press("Tab")
		s = nil
		if p.Eval("walk.here()", &s); s == nil || s.Tag != frame || last == nil || s.At != last.At {
			return s
		}
	}
	p.tb.Fatalf("%v: Tab never leaves the frame", s)
	return nil
}

// works presses keys on the stop that has the focus: each must do what a click
// does, and leave the focus there.
func (p *Page) works(s *Stop) {
	p.tb.Helper()
	pressed := []string{}
	switch s.Tag {
	case "button", "summary":
		pressed = []string{"Enter", " "}
	case "input":
		if s.Others {
			pressed = []string{"ArrowRight", "ArrowLeft"} // of radio buttons
		}
	}
	for _, key := range pressed {
		var before, after int
		p.Eval("window.clicks", &before)
		p.Press(key)
		if p.Eval("window.clicks", &after); after == before {
			p.tb.Errorf("%v: the key %q does nothing", s, key)
		}
		var left bool
		if p.Eval("document.activeElement === document.body", &left); left {
			p.tb.Errorf("%v: the key %q loses the focus", s, key)
		}
	}
}
