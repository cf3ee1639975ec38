package mutate

import (
	"bytes"
	"encoding/json"
)

// sameJSON are other spellings of JSON files.
func sameJSON() (out []Fault) {
	for _, file := range []string{configName, tokenizerFile, tokenizerSets, generationFile, descriptionName, "preprocessor_config.json"} {
		for _, how := range []struct {
			name  string
			spell func(raw []byte) ([]byte, error)
		}{{"on one line", compact}, {"with other spaces", indented}, {"with carriage returns", returns}, {"keys sorted", sorted}, {"letters escaped", escaped}} {
			if how.name == "letters escaped" && file != tokenizerFile && file != tokenizerSets {
				continue
			}
			if (file == tokenizerFile || file == descriptionName) && how.name == "with carriage returns" {
				continue
			}
			out = append(out, Fault{Name: file + " " + how.name, Apply: textFile(file, func(s string) string {
				raw, err := how.spell([]byte(s))
				if err != nil {
					return s
				}
				return string(raw)
			})})
		}
	}
	return out
}

func compact(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Compact(&b, raw)
	return b.Bytes(), err
}

func indented(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Indent(&b, raw, "", "\t")
	return b.Bytes(), err
}

func returns(raw []byte) ([]byte, error) {
	return bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")), nil
}

func sorted(raw []byte) ([]byte, error) {
	m, err := object(raw)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(m, "", "  ")
}

func escaped(raw []byte) ([]byte, error) {
	return bytes.ReplaceAll(raw, []byte("<|"), []byte(`\u003c|`)), nil
}
