package main

import (
	"github.com/urfave/cli/v2"
)

// Flags that several commands have, each with the same name, unit and default.

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "the result as JSON"} }

// workersFlag limits the threads that do something: "computing", "reading".
func workersFlag(doing string) cli.Flag {
	return &cli.IntFlag{Name: "workers", Usage: doing + " threads (default: one per core)"}
}

// defaultMemory is the value of --max-memory where it is not given.
const defaultMemory = "1GiB"

func memoryFlag() cli.Flag {
	return &cli.StringFlag{Name: "max-memory", Value: defaultMemory, Usage: "ceiling for the process's memory"}
}

func idsFlag() cli.Flag {
	return &cli.StringFlag{Name: "token-ids", Usage: "`FILE` with a JSON array of arrays of token ids"}
}

// countFlag goes with an --index of the command's own.
func countFlag() cli.Flag { return &cli.IntFlag{Name: "count", Usage: "of `N` parts"} }

// corpusFlags choose what a forward pass reads: text, of which more is to be
// said, or ids, and how many tokens in sequences of which length.
func corpusFlags(text string, tokens, seqLen int) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "text", Usage: "`FILE` to read: plain text, or JSON lines with a \"text\" field" + text},
		idsFlag(),
		&cli.IntFlag{Name: "tokens", Value: tokens, Usage: "how many tokens to read, spread over the text"},
		&cli.IntFlag{Name: "seq-len", Value: seqLen, Usage: "tokens of a sequence of text"},
	}
}

// engineFlags choose whose verdict is asked for.
func engineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "engine",
			Usage: "vllm, sglang or vllm-ascend, each with @RELEASE (repeatable; default: the newest release of each that knows the layout)"},
		&cli.StringFlag{Name: "hardware", Usage: "one device: h100, a100-80g, ascend-a3 … (default: all that an engine runs on)"},
	}
}
