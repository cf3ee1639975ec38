package check

import (
	"slices"

	"github.com/glmconv/glmconv/quant/engine"
)

// reaction is what an engine does with a fault.
type reaction uint8

const (
	fine    reaction = iota
	refuses          // an error while loading
	silent           // loads and computes something else
)

// reactions is the engines' behaviour, one row a code: vLLM, SGLang,
// vllm-ascend (docs/facts/engine-vllm.md 0, 2-4; docs/facts/engine-sglang.md
// 2-4, 6; docs/facts/engine-vllm-ascend.md 2, 5). Codes that are not here
// concern no engine, or name theirs themselves.
var reactions = map[string][3]reaction{
	"shard-invalid":         {refuses, refuses, refuses},
	"shard-truncated":       {refuses, refuses, refuses},
	"shard-missing":         {refuses, refuses, refuses},
	"foreign-names":         {refuses, silent, refuses},
	"lfs-pointer":           {refuses, refuses, refuses},
	"file-beside-folder":    {refuses, refuses, refuses},
	"mtp-shape":             {refuses, refuses, refuses},
	"layer-count":           {refuses, silent, refuses},
	"expert-count":          {refuses, refuses, refuses},
	"vocabulary":            {refuses, refuses, refuses},
	"stale-quantization":    {silent, silent, refuses},
	"file-size":             {silent, silent, silent},
	"hash-mismatch":         {silent, silent, silent},
	"mtp-file-unlisted":     {silent, silent, silent},
	"index-invalid":         {refuses, refuses, refuses},
	"index-tensor-missing":  {silent, silent, silent},
	"duplicate-tensor":      {silent, silent, silent},
	"consolidated-file":     {refuses, fine, refuses},
	"stale-index":           {silent, silent, silent},
	"leftover-shard":        {silent, silent, silent},
	"config-missing":        {refuses, refuses, refuses},
	"config-mtp-absent":     {silent, silent, silent},
	"config-not-quantized":  {refuses, silent, refuses},
	"quant-config-invalid":  {refuses, refuses, refuses},
	"quant-config-stale":    {silent, silent, silent},
	"tensor-missing":        {silent, silent, silent},
	"tensor-shape":          {refuses, refuses, refuses},
	"tensor-dtype":          {silent, silent, silent},
	"companion-missing":     {silent, silent, silent},
	"companion-shape":       {refuses, refuses, refuses},
	"companion-dtype":       {silent, silent, silent},
	"companion-unexpected":  {refuses, fine, refuses},
	"packed-name":           {refuses, silent, refuses},
	"weight-not-quantized":  {silent, silent, silent},
	"ignored-but-quantized": {refuses, silent, refuses},
	"weight-encoding":       {refuses, silent, refuses},
	"group-mixed":           {silent, silent, refuses},
	"experts-mixed":         {silent, silent, silent},
	"router-bias-missing":   {silent, silent, silent},
	"router-bias-dtype":     {silent, silent, silent},
	"router-quantized":      {refuses, silent, refuses},
	"eh-proj-quantized":     {silent, silent, silent},
	"embedding-quantized":   {refuses, silent, refuses},
	"head-quantized":        {refuses, silent, refuses},
	"norm-quantized":        {refuses, silent, refuses},
	"indexer-wk-int8":       {silent, silent, refuses},
	"indexer-quantized":     {refuses, silent, refuses},
	"kv-b-quantized":        {fine, refuses, refuses},
	"mtp-incomplete":        {silent, silent, silent},
	"scale-nonfinite":       {silent, silent, silent},
	"scale-zero":            {silent, silent, silent},
	"scale-negative":        {silent, silent, silent},
	"scale-unset":           {silent, silent, silent},
	"scale-bias-wrong":      {silent, silent, silent},
	"offset-nonzero":        {fine, fine, silent},
	"code-range":            {silent, silent, silent},
	"weight-nonfinite":      {silent, silent, silent},

	"description-invalid":       {fine, refuses, refuses},
	"description-entry-missing": {fine, silent, refuses},
	"description-mismatch":      {fine, silent, silent},
	"description-scheme":        {fine, refuses, refuses},
	"description-version":       {fine, fine, refuses},
	"description-group-size":    {fine, fine, silent},
	"description-prefix":        {fine, fine, silent},
	"rot-missing":               {fine, silent, silent},
}

// checked are the faults that engines notice in an unquantised checkpoint and
// swallow in a quantised one: vLLM checks completeness only when the config
// has no quantisation.
var checked = []string{"tensor-missing", "router-bias-missing", "mtp-incomplete", "config-mtp-absent", "mtp-file-unlisted"}

// askFaults adds what the engine does with the faults that were found.
func (s *subject) askFaults(e engine.Engine, v *EngineVerdict) {
	col := slices.Index(engine.Engines, e)
	for _, f := range s.report.Findings {
		row, ok := reactions[f.Code]
		if !ok || f.Severity != Error || f.Engine != "" && f.Engine != string(e) {
			continue
		}
		does := row[col]
		if does == silent && s.decl == nil && e != engine.SGLang && slices.Contains(checked, f.Code) {
			does = refuses
		}
		switch does {
		case refuses:
			s.verdict(v, "no", f.Where+": "+f.Detail)
		case silent:
			s.verdict(v, "wrong", f.Where+": "+f.Detail)
		}
	}
}
