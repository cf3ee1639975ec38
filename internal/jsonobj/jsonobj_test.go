package jsonobj_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/jsonobj"
)

func TestParse(t *testing.T) {
	m, err := jsonobj.Parse([]byte(" {\"a\": 1, \"a\": 2}\n"))
	require.NoError(t, err)
	assert.JSONEq(t, "2", string(m["a"]))
	for name, c := range map[string][2]string{
		"nothing":           {" \n", "empty"},
		"a byte order mark": {"\xef\xbb\xbf{}", "byte order mark"},
		"UTF-16":            {"\xff\xfe{\x00}\x00", "not UTF-8"},
		"a page":            {"<!DOCTYPE html>", "HTML"},
		"a list":            {"[]", "not a JSON object"},
		"null":              {"null", "not a JSON object"},
		"a second object":   {"{} {}", "after top-level value"},
		"cut":               {`{"a": `, "unexpected end"},
	} {
		_, err := jsonobj.Parse([]byte(c[0]))
		assert.ErrorContains(t, err, c[1], name)
	}
}
