package recipe

import "github.com/glmconv/glmconv/quant/engine"

// memo keeps answers while many questions about one model are asked: those of
// the engines' tables, the model in another scheme, and whether a variation of
// a question works. A nil one keeps nothing.
type memo struct {
	rows   map[rowsOf][]engine.Row
	models map[modelAs]*Model
	tries  map[question]*Recipe
}

func newMemo() *memo {
	return &memo{rows: map[rowsOf][]engine.Row{}, models: map[modelAs]*Model{}, tries: map[question]*Recipe{}}
}

type rowsOf struct {
	model   *Model
	release string
	device  string
}

type modelAs struct {
	model  *Model
	scheme string
	engine engine.Engine
}

// question is a Query in a form that can be compared.
type question struct {
	model                               *Model
	release, hardware, topology         string
	goal, kv, tools, reasoning          string
	bytes                               int64
	tp, ep, dp, pp, length, atOnce, mtp int
	prefill, decode                     Group
	unverified                          bool
}

func (q *Query) question() question {
	return question{q.Model, q.Release.String(), q.Hardware.String(), q.Topology, q.Goal, q.KV, q.Tools, q.Reasoning, q.Hardware.Bytes,
		q.TP, q.EP, q.DP, q.PP, q.MaxModelLen, q.Concurrency, q.MTP, q.Prefill, q.Decode, q.Unverified}
}

// judge asks the engines' tables about the model.
func (q *Query) judge() []engine.Row {
	key := rowsOf{q.Model, q.Release.String(), q.Hardware.Device.ID}
	if q.memo != nil {
		if rows, ok := q.memo.rows[key]; ok {
			return rows
		}
	}
	rows := engine.Judge(q.Model.Subject, engine.Query{Releases: []engine.Release{q.Release}, Hardware: &q.Hardware.Device})
	if q.memo != nil {
		q.memo.rows[key] = rows
	}
	return rows
}

// as is the model in another scheme.
func (q *Query) as(scheme string) *Model {
	key := modelAs{q.Model, scheme, q.Release.Engine}
	if q.memo != nil {
		if m, ok := q.memo.models[key]; ok {
			return m
		}
	}
	m := q.Model.as(scheme, q.Release.Engine)
	if q.memo != nil {
		q.memo.models[key] = m
	}
	return m
}

// try is the answer to a variation of a question; nil where it contradicts
// itself.
func (q *Query) try() *Recipe {
	q.NoNearest = true
	key := q.question()
	if q.memo != nil {
		if r, ok := q.memo.tries[key]; ok {
			return r
		}
	}
	r, err := Decide(*q)
	if err != nil {
		r = nil
	}
	if q.memo != nil {
		q.memo.tries[key] = r
	}
	return r
}
