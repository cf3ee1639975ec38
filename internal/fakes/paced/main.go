// Command paced is a server for clients that measure: what it answers is nothing, when
// it answers is certain. The k-th request waits for its first token and between tokens
// as long as k says, whatever else is asked at the same time.
//
//	paced -root DIR [-first 300ms] [-gap 40ms] [-tokens 1] [-prompt 16]
//
// It speaks OpenAI's protocol and SGLang's, as far as their clients ask, prints its
// address and ends with its standard input.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// server is what it is told to be.
type server struct {
	root       string        // folder with the tokenizer
	first, gap time.Duration // of the quickest request
	tokens     int           // of a message
	prompt     int           // tokens that it says a prompt has
	asked      atomic.Int64
}

// cycle is how many requests differ from each other.
const cycle = 5

// pace is how long the k-th request waits for its first message and between messages:
// up to 1.4 times as long as the quickest, in an order that no client follows.
func (s *server) pace(k int64) (first, gap time.Duration) {
	a, b := time.Duration(k*2%cycle), time.Duration(k*3%cycle)
	return s.first + s.first*a/10, s.gap + s.gap*b/10
}

func main() {
	var s server
	flag.StringVar(&s.root, "root", "", "folder with the tokenizer")
	flag.DurationVar(&s.first, "first", 300*time.Millisecond, "before the first token, at least")
	flag.DurationVar(&s.gap, "gap", 40*time.Millisecond, "between messages, at least")
	flag.IntVar(&s.tokens, "tokens", 1, "tokens of a message")
	flag.IntVar(&s.prompt, "prompt", 16, "tokens of each prompt")
	flag.Parse()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "paced:", err)
		os.Exit(1)
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	h := http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "paced:", err)
		os.Exit(1)
	}
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]any{
		"/health":      nil,
		"/v1/models":   map[string]any{"object": "list", "data": []any{map[string]any{"id": "paced", "object": "model", "root": s.root}}},
		"/server_info": map[string]any{"internal_states": []any{}},
		"/model_info":  map[string]any{"model_path": "paced", "tokenizer_path": s.root},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if answer != nil {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(answer)
			}
		})
	}
	mux.HandleFunc("POST /v1/completions", s.answer(completion))
	mux.HandleFunc("POST /v1/chat/completions", s.answer(chat))
	mux.HandleFunc("POST /generate", s.answer(native))
	return mux
}

// unasked is the length of a prompt that nobody wants to know.
const unasked = -1

// form is how a protocol says what happens at a message: so many tokens are there;
// ended is the last.
type form func(now int, ended bool, prompt int) []any

func (s *server) answer(of form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		var body struct {
			Max     int `json:"max_tokens"`
			MaxChat int `json:"max_completion_tokens"`
			Options struct {
				Usage bool `json:"include_usage"`
			} `json:"stream_options"`
			Sampling struct {
				Max int `json:"max_new_tokens"`
			} `json:"sampling_params"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		all := max(body.Max, body.MaxChat, body.Sampling.Max)
		if all < 1 {
			http.Error(w, "no length is asked for", http.StatusBadRequest)
			return
		}
		told := unasked
		if body.Options.Usage || body.Sampling.Max > 0 {
			told = s.prompt
		}
		first, gap := s.pace(s.asked.Add(1) - 1)
		w.Header().Set("Content-Type", "text/event-stream")
		at := start.Add(first)
		for sent := 0; sent < all; at = at.Add(gap) {
			time.Sleep(time.Until(at))
			sent = min(sent+s.tokens, all)
			for _, m := range of(sent, sent == all, told) {
				data, err := json.Marshal(m)
				if err != nil {
					panic(err)
				}
				if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
					return
				}
			}
			if sent < all {
				w.(http.Flusher).Flush()
			}
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
}

type object = map[string]any

func usage(now, prompt int) object {
	return object{"prompt_tokens": prompt, "completion_tokens": now, "total_tokens": prompt + now}
}

// reason is null until the end.
func reason(ended bool) any {
	if ended {
		return "length"
	}
	return nil
}

func completion(now int, ended bool, prompt int) []any {
	out := []any{object{"object": "text_completion", "model": "paced", "choices": []any{object{"index": 0, "text": " a", "finish_reason": reason(ended)}}}}
	if ended && prompt != unasked {
		out = append(out, object{"object": "text_completion", "model": "paced", "choices": []any{}, "usage": usage(now, prompt)})
	}
	return out
}

func chat(now int, ended bool, prompt int) []any {
	chunk := func(choices []any) object {
		return object{"object": "chat.completion.chunk", "model": "paced", "choices": choices}
	}
	out := []any{chunk([]any{object{"index": 0, "delta": object{"content": " a"}, "finish_reason": reason(ended)}})}
	if ended && prompt != unasked {
		last := chunk([]any{})
		last["usage"] = usage(now, prompt)
		out = append(out, last)
	}
	return out
}

func native(now int, ended bool, prompt int) []any {
	return []any{object{"text": strings.Repeat(" a", now), "meta_info": object{"prompt_tokens": prompt, "completion_tokens": now, "finish_reason": reason(ended)}}}
}
