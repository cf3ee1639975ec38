package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/template"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/verify"
)

const cardName = "README.md"

// draftCard writes a model card beside a result, unless there is one.
func draftCard(c *cli.Context, dir string, m *quant.Manifest, proof *verify.Result) error {
	path := filepath.Join(dir, cardName)
	if _, err := os.Lstat(path); err == nil {
		fmt.Fprintf(c.App.ErrWriter, "note: %s is there and stays as it is\n", path)
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := card(c, m, proof)
	if err != nil {
		return err
	}
	if err := fsx.WriteFile(fsx.Or(disk), path, []byte(text)); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "note: wrote a draft of %s: read it before it is public\n", path)
	return nil
}

// cardData fills the card.
type cardData struct {
	Base, Commit string
	M            *quant.Manifest
	Proof        *verify.Result
	Size         string
	Command      string
}

// card is the text of a model card.
func card(c *cli.Context, m *quant.Manifest, proof *verify.Result) (string, error) {
	d := cardData{Base: c.String("base"), M: m, Proof: proof}
	src := "SRC"
	if m.Source != nil {
		src, d.Commit = m.Source.URI, m.Source.Commit
		if id, _, err := reach.Repository(m.Source.URI); err == nil && d.Base == "" {
			d.Base = id
		}
	} else if d.Base != "" {
		src = "hf://" + d.Base
	}
	var bytes int64
	for _, f := range m.Files {
		bytes += f.Size
	}
	d.Size = progress.Bytes(bytes)
	d.Command = fmt.Sprintf("glmconv quantize --scheme %s --format %s", m.Scheme, m.Format)
	if m.MTP != "" {
		d.Command += " --mtp " + m.MTP
	}
	if m.Arith == "compat" {
		d.Command += " --arith compat"
	}
	d.Command += " " + src + " DST"
	var b strings.Builder
	err := cardTemplate().Execute(&b, d)
	return b.String(), err
}

// cardTemplate is parsed when a card is written.
var cardTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("card").Funcs(template.FuncMap{"percent": func(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) }}).Parse(cardText))
})

const cardText = `---
{{- if .Base}}
base_model: {{.Base}}
base_model_relation: quantized
{{- end}}
pipeline_tag: text-generation
tags:
- {{.M.Scheme}}
- {{.M.Format}}
- glmconv
---

# {{if .Base}}{{.Base}}{{else}}GLM{{end}} in {{.M.Scheme}}
{{if .Base}}
Quantized from [{{.Base}}](https://huggingface.co/{{.Base}}){{if .Commit}} at commit ` + "`{{.Commit}}`" + `{{end}}.
{{end}}
| | |
|---|---|
| scheme | {{.M.Scheme}} |
| format | {{.M.Format}} |
| size | {{.Size}} |
| made by | glmconv {{.M.Version}} |
{{- range .M.Errors.Schemes}}
| weight error, {{.Scheme}} | {{percent .Relative}} of the weights' norm, {{.Weights}} weights |
{{- end}}
{{- if .M.Method}}
| codes | learnt from text ({{.M.Method}}) |
{{- end}}

` + "```" + `
{{.Command}}
` + "```" + `

## Proof
{{with .Proof}}
Both models were run side by side on a CPU (` + "`glmconv verify`" + `, {{.Tokens}} positions of {{.Identity.Sequences}} sequences, tolerance {{printf "%.3g" .Tol}} nats):

| figure | value |
|---|---|
| mean KL(base, this) | {{printf "%.5f" .KL.Mean}} nats per token, below {{printf "%.5f" .KL.Upper95}} with 95 % confidence |
| 99.9 % quantile of KL | {{printf "%.4f" .KL.P999}} nats |
| changed top-1 tokens | {{percent .FlipRate}} |
| NRMSE of logits | {{printf "%.4f" .NRMSE}} |
| verdict | {{.Verdict}} |
{{else}}
Not measured: ` + "`glmconv verify`" + ` was not given. The weight errors above say nothing of the text that comes out.
{{end}}
Every file's SHA-256 is in ` + "`glmconv-manifest.json`" + `; ` + "`glmconv check hf://ORG/NAME`" + ` compares them, and says what each engine makes of the files.
`
