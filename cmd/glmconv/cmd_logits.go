package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/runtime/vision"
	"github.com/glmconv/glmconv/safetensors"
)

// maxTokenIDs bounds the file of --token-ids, in bytes: a token takes many times
// that in memory.
const maxTokenIDs = 32 << 20

// maxMTPSteps is the largest --mtp of logits.
const maxMTPSteps = 16

func cmdLogits() *cli.Command {
	return &cli.Command{
		Name:      "logits",
		Usage:     "write the runtime's logits, to compare them with another engine's",
		ArgsUsage: "DIR",
		Description: "For the i-th sequence of --token-ids (a JSON array of arrays of ids), T tokens long:\n" +
			"  logits.<i>      F32 [T, V]\n" +
			"  mtp.<k>.<i>     F32 [T-k, V]    --mtp K: draft step k, row p reads token p+k and predicts p+k+1\n" +
			"  hidden.<l>.<i>  F32 [T, H]      --hidden: 0 embedding rows, l after layer l-1, final after model.norm\n" +
			"  router.<l>.<i>  I32 [T, top-k]  --hidden: experts by falling weight\n" +
			"With --image or --video the file holds one sequence with placeholders; it is expanded\n" +
			"as in run and stored as ids.0 (I32 [T]).",
		Flags: append([]cli.Flag{
			idsFlag(),
			&cli.StringFlag{Name: "out", Usage: "`FILE`.safetensors to write"},
			&cli.IntFlag{Name: "mtp", Usage: "draft steps of the MTP layer, teacher-forced"},
			&cli.BoolFlag{Name: "hidden", Usage: "hidden states and experts too"},
			&cli.BoolFlag{Name: "mtp-pre-norm", Usage: "carry the draft state before shared_head.norm, as vLLM does for GLM-4.x"},
		}, append(mediaFlags(), runtimeFlags()...)...),
		Action: runLogits,
	}
}

// logitsOutput checks the flags and opens --out, which must not be in the
// checkpoint.
func logitsOutput(c *cli.Context, dir string) (*output, error) {
	for _, name := range []string{"token-ids", "out"} {
		if c.String(name) == "" {
			return nil, usagef("--%s is required", name)
		}
	}
	if c.Int("mtp") < 0 || c.Int("mtp") > maxMTPSteps {
		return nil, usagef("--mtp must be 0 to %d", maxMTPSteps)
	}
	switch how, err := fsx.Overlap(dir, c.String("out")); {
	case err != nil:
		return nil, err
	case how != "":
		return nil, usagef("--out %s lies in the checkpoint: engines would read it as weights", c.String("out"))
	}
	file, err := openOutput("out", c.String("out"))
	if err == nil && file.Stream() {
		err = usagef("--out %s is not a regular file", c.String("out"))
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

func runLogits(c *cli.Context) error {
	args, err := paths(c, "DIR")
	if err != nil {
		return err
	}
	file, err := logitsOutput(c, args[0])
	if err != nil {
		return err
	}
	files, err := mediaFiles(c)
	if err != nil {
		return err
	}
	ro, err := runtimeOptions(c)
	if err != nil {
		return err
	}
	seqs, err := readTokenIDs(c.String("token-ids"))
	if err != nil {
		return err
	}
	m, err := runtime.Load(args[0], ro)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	for i, s := range seqs {
		for j, id := range s {
			if id < 0 || id >= m.Config().VocabSize {
				return fmt.Errorf("%s: sequence %d, token %d is %d, the vocabulary has %d", c.String("token-ids"), i, j, id, m.Config().VocabSize)
			}
		}
	}
	o := runtime.EvalOptions{Logits: true, Hidden: c.Bool("hidden"), Router: c.Bool("hidden"), MTP: c.Int("mtp"), MTPPreNorm: c.Bool("mtp-pre-norm")}
	if !files.Empty() {
		if o.Media, err = lookLogits(c.Context, args[0], m, seqs, files); err != nil {
			return err
		}
	}
	out, err := m.Evaluate(c.Context, seqs, o)
	if err != nil {
		return err
	}
	var list arrayList
	for i, e := range out {
		list.addEvaluation(m, i, len(seqs[i]), e)
		if !files.Empty() {
			list.addInts(fmt.Sprintf("ids.%d", i), int32s(seqs[i]), len(seqs[i]))
		}
	}
	if err := settleRemotes(c); err != nil {
		return err
	}
	if err := file.Replace(list.write); err != nil {
		return &outputError{flag: "out", path: c.String("out"), err: err, late: true}
	}
	return nil
}

// lookLogits expands the placeholders of the one sequence, in place.
func lookLogits(ctx context.Context, dir string, m *runtime.Model, seqs [][]int, files vision.Files) ([]*runtime.Media, error) {
	if len(seqs) != 1 {
		return nil, usagef("--image and --video go with one sequence, the file has %d", len(seqs))
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, tokenizerError(dir, err)
	}
	ids, media, err := look(ctx, dir, m, tok, seqs[0], files)
	seqs[0] = ids
	return []*runtime.Media{media}, err
}

// readTokenIDs reads a JSON array of non-empty arrays of token ids.
func readTokenIDs(name string) ([][]int, error) {
	data, err := fsx.ReadRegular(name, maxTokenIDs)
	if err != nil {
		return nil, err
	}
	seqs, err := parseTokenIDs(data)
	if err != nil {
		return nil, &hinted{fmt.Errorf("%s: is no JSON array of arrays of token ids: %w", name, err), "for example [[1,2,3],[4,5]]"}
	}
	if len(seqs) == 0 {
		return nil, fmt.Errorf("%s: holds no sequence", name)
	}
	for i, s := range seqs {
		if len(s) == 0 {
			return nil, fmt.Errorf("%s: sequence %d is empty", name, i)
		}
	}
	return seqs, nil
}

// parseTokenIDs is strict: whole numbers alone, no null in their place, nothing
// after the array.
func parseTokenIDs(data []byte) ([][]int, error) {
	var seqs [][]*int
	if err := json.Unmarshal(data, &seqs); err != nil {
		return nil, err
	}
	if seqs == nil {
		return nil, errors.New("it is null")
	}
	out := make([][]int, len(seqs))
	for i, s := range seqs {
		if s == nil {
			return nil, fmt.Errorf("sequence %d is null", i)
		}
		out[i] = make([]int, len(s))
		for j, id := range s {
			if id == nil {
				return nil, fmt.Errorf("sequence %d, token %d is null", i, j)
			}
			out[i][j] = *id
		}
	}
	return out, nil
}

// arrayList is a safetensors file in the making.
type arrayList struct {
	specs []safetensors.Spec
	data  []func() []byte
}

func (l *arrayList) addEvaluation(m *runtime.Model, i, n int, e runtime.Evaluation) {
	cfg := m.Config()
	l.addFloats(fmt.Sprintf("logits.%d", i), e.Logits, n, cfg.VocabSize)
	for k, z := range e.MTP {
		l.addFloats(fmt.Sprintf("mtp.%d.%d", k+1, i), z, max(0, n-k-1), cfg.VocabSize)
	}
	for j, h := range e.Hidden {
		l.addFloats(fmt.Sprintf("hidden.%d.%d", j, i), h, n, cfg.HiddenSize)
	}
	if e.Hidden != nil {
		l.addFloats(fmt.Sprintf("hidden.final.%d", i), e.Final, n, cfg.HiddenSize)
	}
	for layer := range m.Layers() {
		rows, ok := e.Router[layer]
		if !ok {
			continue
		}
		var ids []int32
		for _, r := range rows {
			ids = append(ids, r.Experts...)
		}
		l.addInts(fmt.Sprintf("router.%d.%d", layer, i), ids, n, cfg.ExpertsPerToken)
	}
}

func (l *arrayList) addFloats(name string, x []float32, shape ...int) {
	l.add(name, safetensors.F32, shape, func() []byte {
		b := make([]byte, 4*len(x))
		for i, v := range x {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
		return b
	})
}

func (l *arrayList) addInts(name string, x []int32, shape ...int) {
	l.add(name, safetensors.I32, shape, func() []byte {
		b := make([]byte, 4*len(x))
		for i, v := range x {
			binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
		}
		return b
	})
}

func (l *arrayList) add(name string, d safetensors.DType, shape []int, data func() []byte) {
	s := safetensors.Spec{Name: name, DType: d}
	for _, n := range shape {
		s.Shape = append(s.Shape, int64(n))
	}
	l.specs, l.data = append(l.specs, s), append(l.data, data)
}

// write makes the file, whole or not at all.
func (l *arrayList) write(path string) error {
	plan, err := safetensors.PlanFile(filepath.Base(path), l.specs, nil)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(disk, filepath.Dir(path), plan)
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }()
	for _, data := range l.data {
		if _, err := w.Write(data()); err != nil {
			return err
		}
	}
	_, err = w.Commit()
	return err
}

func int32s(x []int) []int32 {
	out := make([]int32, len(x))
	for i, v := range x {
		out[i] = int32(v)
	}
	return out
}
