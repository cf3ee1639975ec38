package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPage(t *testing.T) {
	list, err := parse([]byte(`{"suite":"kills","job":"a","points":3,"hit":2,"skipped":""}
{"suite":"kills","job":"b","points":4,"hit":4,"skipped":""}
{"suite":"mounts","job":"a","points":0,"hit":0,"skipped":"no right to"}
`))
	require.NoError(t, err)
	page, err := replace([]byte("before\n"+from+"old\n"+to+"\nafter\n"), table(list))
	require.NoError(t, err)
	assert.Equal(t, "before\n"+from+"\n| suite | commands | tried | befell the command | skipped |\n|---|---|---|---|---|\n"+
		"| kills | 2 | 7 | 6 |  |\n| mounts | 1 | 0 | 0 | no right to |\n\n"+to+"\nafter\n", string(page))
	_, err = replace([]byte("no marks"), "")
	require.Error(t, err)
	_, err = parse([]byte("no JSON"))
	require.Error(t, err)
}

func TestVerdicts(t *testing.T) {
	list, err := parse([]byte(`{"Table":"faults","Group":"copies","Kinds":3,"Tried":9,"Negative":9,"Named":8}
{"Table":"benign","Group":"files","Kinds":2,"Tried":4}
`))
	require.NoError(t, err)
	assert.Contains(t, verdicts(list), "| faults | copies | 3 | 9 | 9 | 8 |\n| benign | files | 2 | 4 | 0 |  |\n")
	assert.NotContains(t, table(list), "copies")
}
