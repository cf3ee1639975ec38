package main

import (
	"context"
	"fmt"
	"os"
)

// task is a comparison whose pairs are taken one at a time.
type task interface {
	// rows are the figures that a pair fills.
	rows() []Row
	// open prepares what the pairs share: installs, converts, starts programs.
	open(ctx context.Context) error
	// pair measures glmconv, then the peer: a value for each row.
	pair(ctx context.Context) (ours, theirs []float64, err error)
	close() error
}

// take adds pairs of a task to the results until there are want of each row, at
// most limit now (0: no limit). A task whose peer fails is noted and does not
// end the run; after is called when a pair has been added.
func take(ctx context.Context, t task, res *Results, want, limit int, after func() error) error {
	var rows []*Row
	have := want
	for _, r := range t.rows() {
		x := res.row(r)
		rows, have = append(rows, x), min(have, len(x.Ours))
	}
	n := want - have
	if limit > 0 {
		n = min(n, limit)
	}
	if n <= 0 {
		return nil
	}
	fmt.Fprintf(os.Stderr, "bench-peers: %s, %s\n", rows[0].Figure, rows[0].Peer)
	fail := func(err error) error {
		for _, r := range rows {
			r.Problem = err.Error()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		return after()
	}
	if err := t.open(ctx); err != nil {
		return fail(err)
	}
	defer func() { _ = t.close() }()
	for range n {
		ours, theirs, err := t.pair(ctx)
		if err != nil {
			return fail(err)
		}
		for i, r := range rows {
			r.add(ours[i], theirs[i])
			r.Problem = ""
		}
		if err := after(); err != nil {
			return err
		}
	}
	return nil
}
