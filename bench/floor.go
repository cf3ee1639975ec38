package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Floor is the least that a figure of a run has to reach.
type Floor struct {
	Name  string
	Least float64
}

// floorNames are the figures that a floor can be set for.
var floorNames = []string{"output", "total", "requests", "goodput", "attainment", "accuracy"}

// ParseFloors reads "output:400,requests:2"; a number alone is output tokens a
// second. output and total are tokens a second, requests and goodput requests a
// second, attainment the share of requests sent that meet the limits and accuracy
// that of right answers, in percent.
func ParseFloors(s string) (list []Floor, err error) {
	if s == "" {
		return nil, nil
	}
	for _, w := range strings.Split(s, ",") {
		name, value, ok := strings.Cut(w, ":")
		if !ok {
			name, value = "output", w
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v > 0) || math.IsInf(v, 0) || !slices.Contains(floorNames, name) {
			return nil, fmt.Errorf("%q: write FIGURE:LEAST with a figure of %s", w, strings.Join(floorNames, ", "))
		}
		list = append(list, Floor{name, v})
	}
	return list, nil
}

// Missed says which floors a run is under; accuracy is in percent, NaN where
// answers were not scored.
func (f *Figures) Missed(floors []Floor, accuracy float64) (out []string) {
	for _, x := range floors {
		sent := float64(f.Completed + max(f.Failed, 0))
		v := map[string]float64{"output": f.Output, "total": f.Total, "requests": f.Requests, "goodput": f.Goodput,
			"attainment": 100 * f.Goodput * f.Duration / max(sent, 1), "accuracy": accuracy}[x.Name]
		if !(v >= x.Least) {
			out = append(out, fmt.Sprintf("%s is %.2f, and %.2f is asked for", x.Name, v, x.Least))
		}
	}
	return out
}
