package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"

	"github.com/glmconv/glmconv/runtime/tokenizer"
)

func tokenize(dir string, r io.Reader, w io.Writer) error {
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	dec, enc := json.NewDecoder(r), json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for {
		var text string
		if err := dec.Decode(&text); errors.Is(err, io.EOF) {
			return out.Flush()
		} else if err != nil {
			return err
		}
		ids := tok.Encode(text)
		row := struct {
			IDs      []int  `json:"ids"`
			Ordinary []int  `json:"ordinary"`
			Text     string `json:"text"`
		}{list(ids), list(tok.EncodeOrdinary(text)), tok.Decode(ids)}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
}

// list makes an empty list of nil, which JSON would show as null.
func list(ids []int) []int { return append([]int{}, ids...) }
