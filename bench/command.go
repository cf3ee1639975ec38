package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// CommandOptions are a cell and the settings that its load does not hold.
type CommandOptions struct {
	Load                  *Load
	Cell                  Cell
	Dataset, Path         string
	Tokenizer             string // folder; "": the client's own choice
	Ratio                 float64
	SGLang                bool // style of the range
	Prefix                int
	Images, Width, Height int
	Goodput               string
	Save                  bool
}

// Command is the command of an engine's own client ("vllm" or "sglang") that
// sends the load of a cell: flags of `vllm bench serve` 0.32 and of
// `sglang.benchmark.serving` 0.5.23. missing says what the client cannot do as it
// is asked for.
func Command(kind string, o CommandOptions) (args, missing []string, err error) {
	if kind == "vllm" {
		return o.vllm()
	}
	return o.sglang()
}

// words is a command under construction.
type words []string

func (w *words) add(list ...string) { *w = append(*w, list...) }

func (w *words) number(flag string, n int) { w.add(flag, strconv.Itoa(n)) }

func (w *words) float(flag string, v float64) {
	w.add(flag, strconv.FormatFloat(v, 'g', -1, 64))
}

// common adds the flags that both clients spell alike.
func (o *CommandOptions) common(w *words) {
	w.add("--base-url", o.Load.URL)
	if o.Load.Model != "" {
		w.add("--model", o.Load.Model)
	}
	if o.Tokenizer != "" {
		w.add("--tokenizer", o.Tokenizer)
	}
	w.number("--num-prompts", o.Cell.Prompts)
	if o.Load.Rate > 0 && !math.IsInf(o.Load.Rate, 1) {
		w.float("--request-rate", o.Load.Rate)
	} else {
		w.add("--request-rate", "inf")
	}
	if o.Cell.Concurrency > 0 {
		w.number("--max-concurrency", o.Cell.Concurrency)
	}
	w.add("--seed", strconv.FormatUint(o.Load.Seed, 10))
}

func (o *CommandOptions) vllm() (w words, missing []string, err error) {
	if o.Load.Backend == Native {
		return nil, nil, errors.New("vLLM's client does not speak /generate: --backend openai or openai-chat")
	}
	w.add("vllm", "bench", "serve", "--backend", string(o.Load.Backend), "--endpoint", map[Backend]string{Chat: "/v1/chat/completions", Completions: "/v1/completions"}[o.Load.Backend])
	o.common(&w)
	ratio := o.Ratio
	if o.SGLang {
		if ratio = 0; o.Ratio != 1 {
			missing = append(missing, "vLLM's client has no lengths from L·ratio to L: they are exact here")
		}
	}
	switch o.Dataset {
	case "sharegpt":
		w.add("--dataset-name", "sharegpt", "--dataset-path", o.Path)
	case "jsonl":
		w.add("--dataset-name", "custom", "--dataset-path", o.Path)
		w.number("--custom-output-len", o.Cell.Out)
		missing = append(missing, "vLLM's client reads the field prompt of each line alone")
	case "image":
		w.add("--dataset-name", "random-mm")
		w.number("--random-mm-base-items-per-request", o.Images)
		w.add("--random-mm-limit-mm-per-prompt", fmt.Sprintf(`{"image": %d}`, o.Images), "--random-mm-bucket-config", fmt.Sprintf("{(%d, %d, 1): 1.0}", o.Height, o.Width))
	default:
		w.add("--dataset-name", "random")
	}
	if o.lengths(&w, ratio) && o.Prefix > 0 {
		w.number("--random-prefix-len", o.Prefix)
	}
	if o.Load.Burstiness != 1 {
		w.float("--burstiness", o.Load.Burstiness)
	}
	w.number("--num-warmups", o.Load.Warmup)
	w.float("--temperature", o.Load.Temperature)
	if o.Load.IgnoreEOS {
		w.add("--ignore-eos")
	}
	var ps []string
	for _, p := range o.Load.Percentiles {
		ps = append(ps, strconv.Itoa(p))
	}
	w.add("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", strings.Join(ps, ","))
	if err := o.last(&w, "--extra-body"); err != nil {
		return nil, nil, err
	}
	if o.Save {
		w.add("--save-result")
	}
	return w, missing, nil
}

func (o *CommandOptions) sglang() (w words, missing []string, err error) {
	w.add("python3", "-m", "sglang.benchmark.serving", "--backend", map[Backend]string{Chat: "sglang-oai-chat", Completions: "sglang-oai", Native: "sglang"}[o.Load.Backend])
	o.common(&w)
	ratio := o.Ratio
	if !o.SGLang {
		if ratio = 1; o.Ratio != 0 {
			missing = append(missing, "SGLang's client has no lengths within L(1 ± ratio): they are exact here")
		}
	}
	switch o.Dataset {
	case "sharegpt":
		w.add("--dataset-name", "sharegpt", "--dataset-path", o.Path)
	case "jsonl":
		w.add("--dataset-name", "openai", "--dataset-path", o.Path)
		missing = append(missing, "SGLang's client reads the fields messages and max_tokens of each line")
	case "image":
		w.add("--dataset-name", "image")
		w.number("--image-count", o.Images)
		w.add("--image-resolution", fmt.Sprintf("%dx%d", o.Height, o.Width))
	default:
		w.add("--dataset-name", "random-ids")
		if o.Load.Backend == Native {
			w.add("--tokenize-prompt")
		} else {
			missing = append(missing, "SGLang's client sends random ids as text and counts the ids: the server counts other tokens")
		}
	}
	if o.lengths(&w, ratio) && o.Prefix > 0 {
		missing = append(missing, "SGLang's client gives random prompts no common beginning: see its generated-shared-prefix")
	}
	if o.Load.Burstiness != 1 {
		missing = append(missing, "SGLang's client sends Poisson arrivals alone")
	}
	w.number("--warmup-requests", o.Load.Warmup)
	w.float("--temperature", o.Load.Temperature)
	if !o.Load.IgnoreEOS {
		w.add("--disable-ignore-eos")
	}
	if err := o.last(&w, "--extra-request-body"); err != nil {
		return nil, nil, err
	}
	if o.Save {
		w.add("--output-file", "result.jsonl")
	}
	return w, missing, nil
}

// lengths adds those of random prompts, and tells whether the prompts are such.
func (o *CommandOptions) lengths(w *words, ratio float64) bool {
	if o.Dataset != "random" && o.Dataset != "image" {
		return false
	}
	w.number("--random-input-len", o.Cell.In)
	w.number("--random-output-len", o.Cell.Out)
	w.float("--random-range-ratio", ratio)
	return true
}

// last adds goodput and further fields of bodies, under the client's name for them.
func (o *CommandOptions) last(w *words, extra string) error {
	if o.Goodput != "" {
		w.add("--goodput")
		w.add(strings.Split(o.Goodput, ",")...)
	}
	if len(o.Load.Extra) == 0 {
		return nil
	}
	data, err := json.Marshal(o.Load.Extra)
	if err != nil {
		return err
	}
	w.add(extra, string(data))
	return nil
}
