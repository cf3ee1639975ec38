package declaration

import (
	"cmp"
	"fmt"
	"strings"
)

// Unread says why no weight can be read, however its tensors look: the codes
// are packed in an order that is not known, or the model transforms its weights
// or inputs while it runs. "": weights can be read, except those of groups that
// have a problem of their own.
func (d *Declaration) Unread() string {
	if !d.Method.Known() {
		return fmt.Sprintf("%s: the weights are quantised by %s, which is not read here", d.Root, cmp.Or(d.Spelled, "an unnamed method"))
	}
	return d.unread
}

// Unreadable says why the weights of a module cannot be read, "" if they can:
// what is not known of the form of its inputs or outputs does not count.
func (d *Declaration) Unreadable(module string) string {
	g := d.Of(module).Group
	if why := d.Unread(); why != "" || g == nil {
		return why
	}
	for _, p := range d.Problems {
		below, ok := strings.CutPrefix(p.Path, g.Path)
		if p.Kind != Unsupported || !ok || below != "" && below[0] != '.' {
			continue
		}
		if !strings.HasPrefix(below, ".input") && !strings.HasPrefix(below, ".output") && !strings.HasPrefix(below, ".act_") {
			return p.String()
		}
	}
	return ""
}

// Why returns the first problem that keeps a group from being judged, "" if
// it is.
func (d *Declaration) Why(g *Group) string {
	if d.unread != "" {
		return d.unread
	}
	for _, p := range d.Problems {
		if (p.Kind == Unsupported || p.Kind == Invalid) && (p.Path == g.Path || strings.HasPrefix(p.Path, g.Path+".")) {
			return p.String()
		}
	}
	return ""
}
