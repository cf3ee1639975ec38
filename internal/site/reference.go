package site

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
)

const generated = "<!-- written by internal/site -->\n\n"

// cell makes text fit a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`, "_", `\_`).Replace(s)
}

func commandPages(d *description, pages map[string]string) {
	var list strings.Builder
	list.WriteString(generated + "# Commands\n\n`glmconv COMMAND --help` says the same in a terminal; flags may stand before or after the paths.\n\n| command | does |\n|---|---|\n")
	for _, c := range d.Commands {
		fmt.Fprintf(&list, "| [`%s`](commands/%s.md) | %s |\n", c.Name, c.Name, cell(c.Usage))
		var b strings.Builder
		fmt.Fprintf(&b, "%s# glmconv %s\n\n%s.\n\n```text\nglmconv %s %s [flags]\n```\n\n", generated, c.Name, sentence(c.Usage), c.Name, c.Args)
		if c.Description != "" {
			fmt.Fprintf(&b, "```text\n%s\n```\n\n", strings.TrimSpace(c.Description))
		}
		flagTable(&b, "Flags", c.Flags)
		flagTable(&b, "Flags that many commands have", c.Common)
		pages["reference/commands/"+c.Name+".md"] = b.String()
	}
	pages["reference/commands.md"] = list.String()
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func flagTable(b *strings.Builder, title string, flags []flag) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, "## %s\n\n| flag | meaning | default |\n|---|---|---|\n", title)
	for _, f := range flags {
		names := make([]string, len(f.Names))
		for i, n := range f.Names {
			names[i] = "`--" + n + "`"
		}
		name := strings.Join(names, ", ")
		if f.Value != "" {
			name += " " + f.Value
		}
		usage := cell(f.Usage)
		if len(f.Values) > 0 && !strings.Contains(f.Usage, f.Values[len(f.Values)-1]) {
			usage += ": " + cell(strings.Join(f.Values, ", "))
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, usage, cell(f.Default))
	}
	b.WriteString("\n")
}

func codePages(d *description, pages map[string]string) {
	titles := map[string]string{"check": "Findings of check", "verify": "Checks of verify", "exit": "Exit codes"}
	var list strings.Builder
	list.WriteString(generated + "# Codes\n\nWhat `check`, `verify` and exit codes say. `glmconv explain CODE` says the same in a terminal.\n")
	of := ""
	for _, c := range d.Codes {
		if c.Of != of {
			of = c.Of
			fmt.Fprintf(&list, "\n## %s\n\n| code | | means |\n|---|---|---|\n", titles[of])
		}
		fmt.Fprintf(&list, "| [`%s`](codes/%s.md) | %s | %s |\n", c.Code, c.Code, c.Severity, cell(c.Means))
		var b strings.Builder
		fmt.Fprintf(&b, "%s# `%s`\n\n", generated, c.Code)
		kind := map[string]string{"check": "A finding of [check](../commands/check.md)", "verify": "A check of [verify](../commands/verify.md)", "exit": "An exit code"}[of]
		if c.Severity != "" {
			kind += ", " + c.Severity
		}
		fmt.Fprintf(&b, "%s: %s.\n\n**What leads to it**: %s.\n\n**What to do**: %s.\n", kind, cell(c.Means), cell(c.Cause), cell(c.Remedy))
		pages["reference/codes/"+c.Code+".md"] = b.String()
	}
	pages["reference/codes.md"] = list.String()
}

func schemaPages(d *description, pages map[string]string) error {
	var list strings.Builder
	list.WriteString(generated + "# JSON\n\nEvery result carries `\"schema\": \"glmconv.NAME/1\"`. Fields may be added; those described stay. [Command line](../cli.md#json) says what they mean.\n")
	for _, name := range slices.Sorted(maps.Keys(d.Results)) {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, d.Results[name], "", " "); err != nil {
			return err
		}
		fmt.Fprintf(&list, "\n## %s\n\n```json\n%s\n```\n", name, pretty.String())
	}
	pages["reference/json.md"] = list.String()
	return nil
}

func schemePage(pages map[string]string) error {
	info, err := glm.LookupPreset("glm-4.5-air")
	if err != nil {
		return err
	}
	cfg, err := glm.ParseConfig(info.JSON)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(generated + "# Schemes and formats\n\nWhich scheme exists in which format; the default is marked (`w8a8` of the GLM-5 family: ascend). `glmconv plan` says what becomes of a given model.\n\n| scheme |")
	for _, f := range layout.Formats {
		fmt.Fprintf(&b, " %s |", f)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(layout.Formats)) + "\n")
	for _, s := range layout.Schemes {
		fmt.Fprintf(&b, "| `%s` |", s)
		for _, f := range layout.Formats {
			mark := ""
			if layout.Supported(s, f) == nil {
				mark = "yes"
				if layout.DefaultFormat(s, cfg) == f {
					mark = "**default**"
				}
			}
			fmt.Fprintf(&b, " %s |", mark)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Recipes\n\n")
	for _, r := range quant.Recipes {
		fmt.Fprintf(&b, "- `%s`\n", r.Name)
	}
	pages["reference/schemes.md"] = b.String()
	return nil
}

// enginePages list engines, releases and devices, and for each published model
// what engines make of each scheme in its default format.
func enginePages(presets []string, pages map[string]string) error {
	var list strings.Builder
	list.WriteString(generated + "# Engines\n\n| engine | releases in the tables |\n|---|---|\n")
	for _, e := range engine.Engines {
		var versions []string
		for _, r := range engine.Releases(e) {
			versions = append(versions, r.Version)
		}
		fmt.Fprintf(&list, "| %s | %s |\n", e, strings.Join(versions, ", "))
	}
	fmt.Fprintf(&list, "\nDevices: %s.\n\n## Models\n\n", strings.Join(engine.Devices(), ", "))
	for _, name := range presets {
		fmt.Fprintf(&list, "- [%s](engines/%s.md)\n", name, name)
		page, err := modelPage(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pages["reference/engines/"+name+".md"] = page
	}
	pages["reference/engines.md"] = list.String()
	return nil
}

func modelPage(name string) (string, error) {
	info, err := glm.LookupPreset(name)
	if err != nil {
		return "", err
	}
	cfg, err := glm.ParseConfig(info.JSON)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s# %s\n\nWhat the newest release of each engine makes of a conversion in the default format, on all devices of its tables. Whether it fits their memory is what `glmconv recipe` says.\n", generated, name)
	for _, s := range layout.Schemes {
		f := layout.DefaultFormat(s, cfg)
		plan, err := quant.PlanPublished(name, s, f, quant.Options{})
		if err != nil {
			fmt.Fprintf(&b, "\n## %s\n\nNot for this model: %s.\n", s, cell(err.Error()))
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s, %.1f GB.\n\n| engine | devices | degrees | answer | rule, flags |\n|---|---|---|---|---|\n", s, f, float64(plan.ResultBytes)/1e9)
		type row struct{ engine, hardware, answer, note string }
		var order []row
		degrees := map[row][]string{}
		for _, r := range plan.Engines() {
			key := row{string(r.Engine) + " " + r.Release, strings.ReplaceAll(r.Hardware, ",", ", "), string(r.Answer), strings.TrimSpace(r.Rule + " " + strings.Join(r.Flags, " "))}
			if degrees[key] == nil {
				order = append(order, key)
			}
			degrees[key] = append(degrees[key], r.Parallel)
		}
		for _, r := range order {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.engine, cell(r.hardware), strings.Join(degrees[r], ", "), r.answer, cell(r.note))
		}
	}
	return b.String(), nil
}
