package quant

import "github.com/glmconv/glmconv/safetensors"

// PlanJSON is a plan in the form that scripts rely on (schema glmconv.plan/1).
type PlanJSON struct {
	Schema     string       `json:"schema"`
	Scheme     Scheme       `json:"scheme"`
	Format     Format       `json:"format"`
	Family     string       `json:"family"`
	Tensors    []TensorJSON `json:"tensors"`
	Bytes      BytesJSON    `json:"bytes"`
	PeakMemory int64        `json:"peak_memory"`
	Engines    []EngineJSON `json:"engines"`
	Notes      []string     `json:"notes"`
	Rows       []Row        `json:"summary"`
	Mixed      *Mixed       `json:"mixed,omitempty"` // with a budget
}

// TensorJSON is the fate of one source tensor.
type TensorJSON struct {
	Name    string       `json:"name"`
	Action  Action       `json:"action"`
	Scheme  string       `json:"scheme"`
	Outputs []OutputJSON `json:"outputs"`
	Reason  string       `json:"reason"`
}

// OutputJSON is one tensor of the result.
type OutputJSON struct {
	Name  string            `json:"name"`
	DType safetensors.DType `json:"dtype"`
	Shape []int64           `json:"shape"`
	Bytes int64             `json:"bytes"`
	File  string            `json:"file"`
}

// BytesJSON are sizes: of the source's tensors and of the result's files.
type BytesJSON struct {
	Source int64 `json:"source"`
	Result int64 `json:"result"`
}

// JSON returns the plan in the form that scripts rely on. peakMemory is that of
// its conversion (convert.PeakMemory). [Plan.WriteJSON] writes it without holding it.
func (p *Plan) JSON(peakMemory int64) PlanJSON {
	j := p.head(peakMemory)
	j.Engines = p.Engines()
	j.Tensors = make([]TensorJSON, len(p.Items))
	for i := range p.Items {
		it := &p.Items[i]
		t := TensorJSON{Name: it.Name(), Action: it.Action, Scheme: it.Scheme, Reason: it.Reason, Outputs: make([]OutputJSON, it.Outputs)}
		for k, out := range p.Outputs(it) {
			t.Outputs[k] = OutputJSON{out.Name, out.DType, out.Shape, out.Bytes(), p.Files[it.File].Plan.Name}
		}
		j.Tensors[i] = t
	}
	return j
}

// head is the plan without its tensors and engines.
func (p *Plan) head(peakMemory int64) PlanJSON {
	return PlanJSON{Schema: "glmconv.plan/1", Scheme: p.Scheme, Format: p.Format, Family: string(p.Config.Family), Notes: p.Notes, Rows: p.Rows(), Mixed: p.Mixed,
		Bytes: BytesJSON{p.SourceBytes, p.ResultBytes}, PeakMemory: peakMemory}
}
