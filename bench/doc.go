// Package bench measures a server that speaks OpenAI's protocol or SGLang's,
// with the definitions and in the formats of the engines' own clients.
//
//	load := bench.Load{URL: "http://127.0.0.1:8000", Backend: bench.Chat, Prompts: prompts, Concurrency: 16}
//	run, err := bench.Run(ctx, load)
//	f := run.Figures()
//	bench.WriteVLLM(os.Stdout, f, "0.32")       // or WriteSGLang
//	old, err := bench.Read(data)                // a pasted report, or JSON of either client
//	c := bench.Comparison{Cases: []bench.Case{{Name: "chat", Base: old[0], New: f}}, BaseGPUs: 4, NewGPUs: 4}
//	err = c.WriteMarkdown(os.Stdout)            // or WriteCSV, WriteJSON, WriteHTML
//
// # Definitions
//
// Those of `vllm bench serve` 0.32 (vllm/benchmarks/serve.py): time to first
// token is that of the first message with choices, the role's included;
// inter-token latency is the gap between such messages; end-to-end latency ends
// with the last of them; time per output token is (E2EL − TTFT)/(n − 1) for
// n > 1 tokens; tokens are what the server's usage says. Percentiles are
// numpy's linear ones. The peak of output is the fullest second, in messages;
// the peak of concurrency counts requests that touch a second, and so exceeds
// the limit asked for. SGLang's client (sglang/benchmark/serving.py 0.5.23)
// adds concurrency, the sum of latencies by duration; its native form repeats
// a gap divided by its new tokens.
//
// Failed requests are counted and left out of latencies.
package bench
