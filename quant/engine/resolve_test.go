package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
)

// decision is one case: what an engine makes of one module under a config.
// want is the encoding, or what the complaint holds after a "!".
type decision struct {
	name, preset string
	config       string // quantization_config, or the description when it has no quant_method
	module, want string
}

// decide runs the cases for one engine.
func decide(t *testing.T, e engine.Engine, cases []decision) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name+"/"+c.preset+"/"+c.module, func(t *testing.T) {
			r := resolved(t, e, c.preset, c.config, c.module)
			if complaint, ok := strings.CutPrefix(c.want, "!"); ok {
				assert.Contains(t, r.Err, complaint)
				return
			}
			assert.Empty(t, r.Err)
			assert.Equal(t, c.want, r.Weight.String())
		})
	}
}

// resolved is what an engine decides for a module of a published model. A
// module that the engine does not build fails the test: a misspelt name would
// otherwise pass as one that nothing matches.
func resolved(t *testing.T, e engine.Engine, preset, config, module string) engine.Resolution {
	t.Helper()
	cfg, err := glm.Preset(preset)
	require.NoError(t, err)
	parse := engine.ParseDescription
	if strings.Contains(config, "quant_method") {
		parse = engine.ParseConfig
	}
	c, err := parse([]byte(config))
	require.NoError(t, err)
	for _, m := range built(e, preset, cfg, c.Method == "compressed-tensors") {
		if m.Name == module {
			return engine.Resolve(tested(e), cfg, c, m)
		}
	}
	t.Fatalf("%s builds no module %s", e, module)
	return engine.Resolution{}
}

// tested is the release whose own functions the cases were run with.
func tested(e engine.Engine) engine.Release {
	if e == engine.Ascend {
		return engine.Releases(e)[0]
	}
	return engine.Newest(e)
}

// built keeps the module lists, which are long, for the cases that share them.
func built(e engine.Engine, preset string, cfg *glm.Config, ct bool) []engine.Module {
	key := fmt.Sprint(e, preset, ct)
	if modules[key] == nil {
		modules[key] = engine.Modules(tested(e), cfg, ct)
	}
	return modules[key]
}

var modules = map[string][]engine.Module{}

// list is a JSON array of strings.
func list(texts ...string) string {
	quoted := make([]string, len(texts))
	for i, s := range texts {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

const (
	fp8Args   = `"weights":{"num_bits":8,"type":"float","strategy":"channel"},"input_activations":{"num_bits":8,"type":"float","strategy":"token","dynamic":true}`
	int8Args  = `"weights":{"num_bits":8,"type":"int","strategy":"channel"},"input_activations":{"num_bits":8,"type":"int","strategy":"token","dynamic":true}`
	nvfp4Args = `"format":"nvfp4-pack-quantized","weights":{"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16}`
	int4Args  = `"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":128}`
)

// group is one config group; groups stand in the order given.
func group(args string, targets ...string) string {
	return `{"targets":` + list(targets...) + "," + args + "}"
}

// ct is a compressed-tensors config.
func ct(ignore string, groups ...string) string {
	var g []string
	for i, text := range groups {
		g = append(g, fmt.Sprintf(`"group_%d":%s`, i, text))
	}
	return `{"quant_method":"compressed-tensors","format":"int-quantized","ignore":` + ignore + `,"config_groups":{` + strings.Join(g, ",") + "}}"
}

// fp8 ignores the entries and makes every other linear FP8 by channel.
func fp8(ignore ...string) string { return ct(list(ignore...), group(fp8Args, "Linear")) }

// block is quant_method fp8 with a list of modules to leave.
func block(skip ...string) string {
	return `{"quant_method":"fp8","weight_block_size":[128,128],"modules_to_not_convert":` + list(skip...) + "}"
}

const (
	float = "float"
	chan8 = "fp8 channel"
	blk   = "fp8 block"
	int8c = "int8 channel"
	int4g = "int4 group 128"
)
