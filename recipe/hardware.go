package recipe

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant/engine"
)

// hardware is a device of data/hardware.yaml.
type hardware struct {
	Vendor string  `yaml:"vendor"`
	GB     float64 `yaml:"mem_gb"`
	MiB    int64   `yaml:"mem_mib"`
	Node   int     `yaml:"node"`
	Link   string  `yaml:"link"`
	GFX    string  `yaml:"gfx"`
	Suffix string  `yaml:"image_suffix"`
	Note   string  `yaml:"note"`
}

// bytes of one device: what the driver reports, or the label's decimal size.
func (h *hardware) bytes() int64 {
	if h.MiB > 0 {
		return h.MiB << 20
	}
	return int64(h.GB * 1e9)
}

// Hardware is devices in servers.
type Hardware struct {
	ID      string
	Device  engine.Device
	Bytes   int64 // of one device
	Devices int   // of a node
	Nodes   int
	spec    hardware
}

// Total is the number of devices in all nodes.
func (h Hardware) Total() int { return h.Devices * h.Nodes }

// String returns "h200:8x2".
func (h Hardware) String() string {
	s := fmt.Sprintf("%s:%d", h.ID, h.Devices)
	if h.Nodes > 1 {
		s += fmt.Sprintf("x%d", h.Nodes)
	}
	return s
}

// UsageError is a wrong question: exit 2.
type UsageError struct{ What, Advice string }

func (e *UsageError) Error() string { return e.What }

// Hint says what to write instead.
func (e *UsageError) Hint() string { return e.Advice }

func usage(advice, format string, args ...any) error {
	return &UsageError{What: fmt.Sprintf(format, args...), Advice: advice}
}

const hardwareForm = "write ID:DEVICES or ID:DEVICESxNODES, such as a100-80g:4 or h200:8x2, or custom:mem=96GiB,cc=9.0,n=8"

// maxDevices and maxNodes bound what a question may ask about.
const (
	maxDevices = 256
	maxNodes   = 64
)

// ParseHardware reads "h200:8x2". The error is a *UsageError or an
// *engine.UnknownError.
func ParseHardware(text string) (Hardware, error) {
	id, count, ok := strings.Cut(strings.ToLower(text), ":")
	if !ok || count == "" {
		return Hardware{}, usage(hardwareForm, "--hardware %q has no number of devices", text)
	}
	if id == "custom" {
		return customHardware(text, count)
	}
	d, err := engine.FindDevice(id)
	if err != nil {
		return Hardware{}, err
	}
	spec := table().Devices[d.ID]
	if spec == nil || spec.bytes() == 0 {
		return Hardware{}, usage("choose an accelerator; vllm-cpu needs no recipe", "--hardware %s: the tables have no memory of this device", d.ID)
	}
	h := Hardware{ID: d.ID, Device: d, Bytes: spec.bytes(), Nodes: 1, spec: *spec}
	if err = h.count(count); err != nil {
		return Hardware{}, usage(hardwareForm, "--hardware %q: %v", text, err)
	}
	return h, nil
}

// count reads "8" or "8x2": devices of a server, and servers.
func (h *Hardware) count(s string) (err error) {
	devices, nodes, many := strings.Cut(s, "x")
	if h.Devices, err = number(devices, maxDevices); err == nil && many {
		h.Nodes, err = number(nodes, maxNodes)
	}
	return err
}

func number(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no number from 1 to %d", s, most)
	}
	return n, nil
}

// customHardware reads "mem=96gib,cc=9.0,n=8x2", or nodes=2 for the second
// number: a device of a known compute capability with another memory. Text is
// the whole as it was written, fields what is read of it, in lower case.
func customHardware(text, fields string) (Hardware, error) {
	h := Hardware{ID: "custom", Nodes: 1, spec: hardware{Vendor: "nvidia", Link: "unknown"}}
	bad := func(why string) (Hardware, error) {
		return Hardware{}, usage(hardwareForm, "--hardware %q: %s", text, why)
	}
	capability := -1
	for _, f := range strings.Split(fields, ",") {
		key, value, _ := strings.Cut(f, "=")
		var err error
		switch key {
		case "mem":
			h.Bytes, err = progress.ParseBytes(unitCase(value))
		case "cc":
			var v float64
			if v, err = strconv.ParseFloat(value, 64); err == nil && v >= 5 && v < 20 {
				capability = int(v*10 + 0.5)
			}
		case "n":
			err = h.count(value)
		case "nodes":
			h.Nodes, err = number(value, maxNodes)
		default:
			return bad(fmt.Sprintf("unknown field %q", key))
		}
		if err != nil {
			return bad(fmt.Sprintf("%s: %v", key, err))
		}
	}
	if h.Bytes <= 0 || h.Devices == 0 || capability < 0 {
		return bad("mem, cc and n are needed")
	}
	for _, id := range engine.Devices() {
		if d, err := engine.FindDevice(id); err == nil && d.Vendor == "nvidia" && d.Capability == capability {
			h.Device = d
			return h, nil
		}
	}
	return bad("no table knows this compute capability")
}

// unitCase gives the unit of a size in lower case the form that sizes have:
// "96gib" is "96GiB".
func unitCase(s string) string {
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "KB", "MB", "GB", "TB"} {
		if n, ok := strings.CutSuffix(s, strings.ToLower(unit)); ok {
			return n + unit
		}
	}
	return s
}
