package origin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
)

// renamedSeeds is how many tensors that seem to be missing are asked for the
// rewriting that explains them, and how many rewritings of each are tried, those
// that change least first.
const renamedSeeds, renamedTries = 3, 16

// unplaced are the shapes of all tensors, and of those in the family's table
// that are missing.
func (f *finder) unplaced() (shapes, missing map[string][]int64) {
	modules := map[string]bool{}
	shapes = map[string][]int64{}
	for _, t := range f.Tensors {
		shapes[t.Name] = t.Shape
		m, _ := glm.ModuleOf(t.Name)
		modules[m] = true
	}
	stacked := map[int]bool{}
	missing = map[string][]int64{}
	for _, row := range f.Config.Table() {
		if row.Optional || modules[row.Module] {
			continue
		}
		if a, _ := f.Config.StackedExperts(row.Layer); row.Expert >= 0 && (stacked[row.Layer] || shapes[a] != nil) {
			stacked[row.Layer] = true
			continue
		}
		missing[row.Name] = row.Shape
	}
	return shapes, missing
}

// otherNames finds one part of the names that stands where the table has another:
// what seems to be missing is there under that name. Nothing is known of who
// wrote it; shapes tell that they are the same tensors.
func (f *finder) otherNames(odd []string) {
	shapes, missing := f.unplaced()
	names := make([]string, 0, len(missing))
	for n := range missing {
		names = append(names, n)
	}
	slices.Sort(names)
	slices.Sort(odd)
	if len(names) == 0 {
		return
	}
	var best substitution
	for s := range renamedSeeds {
		seed := names[s*(len(names)-1)/max(1, renamedSeeds-1)]
		var list []substitution
		for _, o := range odd {
			x := between(o, seed)
			if slices.Equal(shapes[o], missing[seed]) && (!number(x.from) || !number(x.to)) { // another number is another layer or expert
				list = append(list, x)
			}
		}
		slices.SortStableFunc(list, func(a, b substitution) int {
			return cmp.Or(len(a.from)+len(a.to)-len(b.from)-len(b.to), strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
		})
		list = slices.Compact(list)
		for _, x := range list[:min(renamedTries, len(list))] {
			for _, name := range odd {
				want := x.apply(name, func(n string) bool { return missing[n] != nil && slices.Equal(shapes[name], missing[n]) })
				if want != "" {
					if x.n++; x.example == "" {
						x.example, x.right = name, want
					}
				}
			}
			if x.n > best.n {
				best = x
			}
		}
	}
	if 5*best.n < 4*len(missing) || best.n == 0 || best.n == 1 && len(odd) > 1 {
		return
	}
	rest := "nothing is missing"
	if n := len(missing) - best.n; n > 0 {
		rest = "beside them " + plural(n, "tensor") + map[bool]string{true: " is", false: " are"}[n == 1] + " missing"
	}
	f.add(ForeignNames, true, best.example, "rename the tensors, or save the model with transformers (save_pretrained)",
		"%s under another name, %s instead of %s: %s; it should be %s",
		plural(best.n, "tensor"), best.says(best.from), best.says(best.to), rest, best.right)
}

// substitution is one run of name parts in place of another.
type substitution struct {
	from, to       string // between dots; "" for none
	n              int    // names that it explains
	example, right string
}

func (substitution) says(parts string) string {
	if parts == "" {
		return "nothing"
	}
	return fmt.Sprintf("%q", parts)
}

func number(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// between is what takes a name to another: what lies between the parts that both
// begin and end with.
func between(from, to string) substitution {
	a, b := strings.Split(from, "."), strings.Split(to, ".")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return substitution{from: strings.Join(a, "."), to: strings.Join(b, ".")}
}

// apply rewrites a name where that makes one that is wanted; "" if none is.
func (s substitution) apply(name string, wanted func(string) bool) string {
	if s.from == "" {
		return ""
	}
	dotted, part, to := "."+name+".", "."+s.from+".", "."
	if s.to != "" {
		to += s.to + "."
	}
	for at := 0; ; at++ {
		i := strings.Index(dotted[at:], part)
		if i < 0 {
			return ""
		}
		at += i
		if n := strings.Trim(dotted[:at]+to+dotted[at+len(part):], "."); wanted(n) {
			return n
		}
	}
}
