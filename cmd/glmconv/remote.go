package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// remoteCommands read sources by address: how many of their arguments, from the
// first on.
var remoteCommands = map[string]int{"inspect": 1, "plan": 1, "quantize": 1, "check": 1, "logits": 1, "diff": 2, "verify": 2}

// readsWeights are those that read weights, not headers only.
var readsWeights = map[string]bool{"quantize": true, "verify": true, "logits": true}

// remoteFlags say how a source is reached.
func remoteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "connections", Value: 8, Usage: "parallel requests to a remote source, 1 to 64"},
		&cli.StringFlag{Name: "bandwidth", Usage: "read at most so much per second from a remote source: 200MB/s (default: no limit)"},
		&cli.BoolFlag{Name: "offline", Usage: "no network: hf:// reads what the hub's own client has downloaded, all addresses what --cache has kept (also HF_HUB_OFFLINE=1)"},
		&cli.StringFlag{Name: "cache", Usage: "`DIR` that keeps what is fetched of shards, for --resume and later runs (default: none)"},
		&cli.StringFlag{Name: "cache-size", Usage: "what the folder of --cache may have, as 200GB: shards that were used longest ago go (default: no limit)"},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the credential of a hub (default: HF_TOKEN and the hub's own files)"},
		&cli.StringFlag{Name: "ca-file", Usage: "`FILE` with further root certificates"},
		&cli.StringFlag{Name: "source-check", Value: "auto", Usage: "auto: hash the shards that are read whole anyway; full: read the rest as well, so that all are hashed; off: hash none"},
		&cli.DurationFlag{Name: "retry-for", Value: 5 * time.Minute, Usage: "give up after so long without a byte"},
	}
}

// remotes are the sources that a command has open, by address.
type remotes struct {
	open    map[string]*reach.Source
	close   []func()
	written *reach.Bucket // where a result goes, or nil
}

const remotesKey = "remotes"

// remotesOf returns the open sources of a run.
func remotesOf(c *cli.Context) *remotes {
	if r, ok := c.App.Metadata[remotesKey].(*remotes); ok {
		return r
	}
	r := &remotes{open: map[string]*reach.Source{}}
	c.App.Metadata[remotesKey] = r
	return r
}

// closeRemotes ends what a run has open.
func closeRemotes(app *cli.App) {
	if r, ok := app.Metadata[remotesKey].(*remotes); ok {
		for _, f := range r.close {
			f()
		}
	}
}

// distrustRemotes has caches forget the headers of open sources where a run has ended
// because one could not be read: the next one asks for them anew.
func distrustRemotes(app *cli.App, err error) {
	var bad *safetensors.Error
	if r, ok := app.Metadata[remotesKey].(*remotes); ok && errors.As(err, &bad) {
		for _, s := range r.open {
			s.Distrust()
		}
	}
}

// readable returns the name of the folder that the i-th argument of a command
// stands for: a path as it is, an address as it is mounted.
func readable(c *cli.Context, i int, arg string) (string, error) {
	if source.Scheme(arg) == "" {
		return arg, nil
	}
	if name, ok, err := destination(c, i, arg); ok || err != nil {
		return name, err
	}
	if i >= remoteCommands[c.Command.Name] {
		return "", notRemote(c.Command.Name, i, arg)
	}
	r := remotesOf(c)
	if s := r.open[arg]; s != nil {
		return s.Name(), nil
	}
	o, err := remoteOptions(c)
	if err != nil {
		return "", err
	}
	at := sameCommit(c, i, arg, o)
	if dir, commit, ok, err := reach.Cached(at, o); ok || err != nil {
		if err == nil && o.Full {
			return "", usagef("--source-check full hashes what comes over the network, and %s is read from the hub's cache: look at it with hf cache verify, and leave the flag out", arg)
		}
		if err == nil {
			fmt.Fprintf(c.App.ErrWriter, "note: reading %s at commit %s from the hub's cache\n", arg, commit)
		}
		return dir, err
	}
	s, err := openRemote(c, at, o)
	if err != nil {
		return "", err
	}
	r.close = append(r.close, func() { _ = s.Close() })
	unmount, err := source.Mount(c.Context, s)
	switch {
	case errors.Is(err, fs.ErrExist): // the same commit under two addresses
	case err != nil:
		return "", err
	default:
		r.close = append(r.close, unmount)
	}
	r.open[arg] = s
	if id, immutable := s.Pinned(); immutable {
		fmt.Fprintf(c.App.ErrWriter, "note: reading %s at commit %s\n", arg, id)
	}
	return s.Name(), nil
}

// notRemote refuses an address where a folder of the local disk is needed.
func notRemote(command string, i int, arg string) error {
	if err := reach.CheckAddress(arg); err != nil {
		return err
	}
	why := command + " changes or fills a folder of the local disk"
	if command == "run" {
		why = "run reads every weight for every token"
	}
	return &source.Error{Kind: source.ErrLocal, Where: "argument " + fmt.Sprint(i+1), Reason: "is an address: " + why,
		Advice: "download it first: hf download ORG/NAME --local-dir DIR"}
}

func remoteOptions(c *cli.Context) (reach.Options, error) {
	o := reach.Options{Connections: c.Int("connections"), Offline: c.Bool("offline"), Cache: c.String("cache"), TokenFile: c.String("token-file"), CAFile: c.String("ca-file"),
		RetryFor: c.Duration("retry-for"), Version: currentBuild().Version, Data: readsWeights[c.Command.Name],
		Warn: func(text string) { fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", text) }}
	if o.Connections < 1 || o.Connections > reach.MaxConnections {
		return o, usagef("--connections must be 1 to %d", reach.MaxConnections)
	}
	switch c.String("source-check") {
	case "auto":
	case "full":
		o.Full = true
	case "off":
		o.Unchecked = true
	default:
		return o, usagef("--source-check must be full, auto or off, not %q", c.String("source-check"))
	}
	if o.RetryFor <= 0 {
		return o, usagef("--retry-for must be above 0")
	}
	if text := c.String("cache-size"); text != "" {
		n, err := progress.ParseBytes(text)
		switch {
		case err != nil || n <= 0:
			return o, usagef("--cache-size must be a size such as 200GB, not %q", text)
		case o.Cache == "":
			return o, usagef("--cache-size bounds the folder of --cache, which is not given")
		}
		o.CacheSize = n
	}
	if text := c.String("bandwidth"); text != "" {
		n, err := progress.ParseBytes(trimRate(text))
		if err != nil || n <= 0 {
			return o, usagef("--bandwidth must be bytes a second, as 200MB/s, not %q", text)
		}
		o.Bandwidth = n
	}
	return o, nil
}

// trimRate takes the unit of time from a rate.
func trimRate(text string) string {
	if n := len(text); n > 2 && text[n-2:] == "/s" {
		return text[:n-2]
	}
	return text
}

// settleRemotes has the last word of the sources whose weights a command has read,
// before it says what came of them: all of a shard is hashed where that is asked
// for, a listing that may change is the same.
func settleRemotes(c *cli.Context) error {
	for _, s := range remotesOf(c).open {
		if !s.ReadWeights() {
			continue
		}
		if err := s.Settle(c.Context); err != nil {
			return err
		}
	}
	return nil
}

// remoteMemory is what open sources take of --max-memory.
func remoteMemory(c *cli.Context) int64 {
	var n int64
	for range remotesOf(c).open {
		n += reach.Options{Connections: c.Int("connections")}.Memory()
	}
	return n
}

// network returns what went over the network, nil if nothing was remote.
func network(c *cli.Context) *reach.Traffic {
	var all []reach.Traffic
	for _, s := range remotesOf(c).open {
		all = append(all, s.Traffic())
	}
	if b := remotesOf(c).written; b != nil {
		all = append(all, b.Traffic())
	}
	var sum *reach.Traffic
	for _, t := range all {
		if sum == nil {
			sum = &reach.Traffic{}
		}
		sum.Bytes, sum.Requests, sum.Retries = sum.Bytes+t.Bytes, sum.Requests+t.Requests, sum.Retries+t.Retries
		sum.Renewed, sum.SecondsWaiting = sum.Renewed+t.Renewed, sum.SecondsWaiting+t.SecondsWaiting
	}
	return sum
}
