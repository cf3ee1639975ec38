package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/verify/check"
)

// declaration completes what the folder says of its own quantization, for the
// tensors of the result.
func (d *decider) declaration() error {
	cfg := d.cfg
	if d.config != nil {
		var err error
		if cfg, err = glm.ParseConfig(d.config); err != nil {
			return err
		}
	}
	if slices.Contains(d.remove, cfg.QuantizationFile) { // it declares what nothing is, and goes
		return nil
	}
	lack, err := check.Complete(cfg, d.text, d.tensors())
	if err != nil {
		d.stays("%v", err)
		return nil
	}
	if len(lack.Entries) > 0 {
		return d.describe(lack.Entries)
	}
	if lack.Config != nil {
		file, key := "config.json", "quantization_config."+lack.Key
		if cfg.QuantizationFile != "" {
			file, key = cfg.QuantizationFile, lack.Key
		} else if d.config, err = withQuantization(cfg, lack.Config); err != nil {
			d.stays("config.json: %v", err)
			return nil
		}
		for _, e := range lack.Ignore[:min(len(lack.Ignore), 20)] {
			d.step("config", file, "%s gets %s, so that engines leave alone what is not quantised", key, e)
		}
		if n := len(lack.Ignore); n > 20 {
			d.step("config", file, "%s gets %d more", key, n-20)
		}
		if strings.HasPrefix(cfg.Quantization, string(declaration.ModelOpt)) && !slices.Contains(d.remove, modelOptFile) {
			if err := d.modelOpt(lack.Ignore, cfg.QuantizationFile != ""); err != nil {
				return err
			}
		}
	}
	if n := len(lack.Unsaid); n > 0 {
		d.stays("%s: it is built otherwise than it is stored, and no entry of an ignore list changes that (%d such modules)", lack.Unsaid[0], n)
	}
	return nil
}

// modelOptFile is where ModelOpt declares the quantization once more, or alone.
const modelOptFile = "hf_quant_config.json"

// modelOpt adds entries to ModelOpt's own file, if it is there.
func (d *decider) modelOpt(entries []string, alone bool) error {
	raw, err := fsx.ReadIn(d.Dir, modelOptFile, fsx.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lists, err := check.ListOf(string(declaration.ModelOpt), raw)
	if err != nil {
		d.stays("%s: %v", modelOptFile, err)
		return nil
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e string) bool { return slices.Contains(lists.List, e) })
	if len(entries) == 0 {
		return nil
	}
	d.beside = append(lists.With(entries, ""), '\n')
	if !alone {
		d.step("config", modelOptFile, "%s gets the same %d", lists.Key, len(entries))
	}
	return nil
}

// describe adds entries to the description.
func (d *decider) describe(entries []check.Entry) error {
	list := make([]mtp.Entry, len(entries))
	for i, e := range entries {
		list[i] = mtp.Entry(e)
	}
	text, err := mtp.AddEntries(d.text, list)
	var e *mtp.Error
	switch {
	case errors.As(err, &e):
		d.stays("%v", e)
		return nil
	case err != nil:
		return err
	}
	d.description = text
	d.step("description", declaration.DescriptionName, "gets %d entries, the first is %s: %s", len(entries), entries[0].Tensor, entries[0].Scheme)
	return nil
}

// withQuantization returns config.json's text with another quantization_config,
// every other byte as it is.
func withQuantization(cfg *glm.Config, to json.RawMessage) ([]byte, error) {
	if bytes.Count(cfg.Raw, cfg.QuantizationConfig) != 1 {
		return nil, fmt.Errorf("quantization_config stands there more than once")
	}
	return bytes.Replace(cfg.Raw, cfg.QuantizationConfig, to, 1), nil
}
