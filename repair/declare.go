package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/glm"
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
	lack, err := check.Complete(cfg, d.text, d.tensors())
	if err != nil {
		d.stays("%v", err)
		return nil
	}
	if len(lack.Entries) > 0 {
		return d.describe(lack.Entries)
	}
	if lack.Config != nil {
		if d.config, err = withQuantization(cfg, lack.Config); err != nil {
			d.stays("config.json: %v", err)
			return nil
		}
		for _, e := range lack.Ignore[:min(len(lack.Ignore), 20)] {
			d.step("config", "config.json", "quantization_config.%s gets %s, so that engines leave alone what is not quantised", lack.Key, e)
		}
		if n := len(lack.Ignore); n > 20 {
			d.step("config", "config.json", "quantization_config.%s gets %d more", lack.Key, n-20)
		}
	}
	if n := len(lack.Unsaid); n > 0 {
		d.stays("%s: it is built otherwise than it is stored, and no entry of an ignore list changes that (%d such modules)", lack.Unsaid[0], n)
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
	if cfg.QuantizationFile != "" {
		return nil, fmt.Errorf("%s declares the quantization, not config.json", cfg.QuantizationFile)
	}
	if bytes.Count(cfg.Raw, cfg.QuantizationConfig) != 1 {
		return nil, fmt.Errorf("quantization_config stands there more than once")
	}
	return bytes.Replace(cfg.Raw, cfg.QuantizationConfig, to, 1), nil
}
