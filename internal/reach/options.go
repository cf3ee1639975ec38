package reach

import (
	"os"
	"strings"
	"time"

	"github.com/glmconv/glmconv/source"
)

// Options say how a source is reached; none of them changes a byte of what is
// read.
type Options struct {
	Connections int           // parallel requests for data, 1 to 64 (0: 8); headers: twice as many
	Bandwidth   int64         // bytes a second over all connections (0: no limit)
	RetryFor    time.Duration // how long without a byte before giving up (0: 5 minutes)
	Offline     bool          // no network
	TokenFile   string        // credential for a hub or ModelScope
	CAFile      string        // further root certificates, PEM
	Cache       string        // folder that keeps blocks of shards; "" for none
	CacheSize   int64         // bytes that it may have (0: no limit)
	Full        bool          // Settle reads what was not hashed yet, so that every shard is; a source without hashes is refused
	Unchecked   bool          // shards are not hashed as they pass; size and entity tag are held
	Version     string        // of glmconv, for User-Agent
	Data        bool          // weights are read, not headers only: counted as a download by hubs

	Getenv func(string) string // nil: os.Getenv
	Warn   func(string)        // hears what deserves a word; nil: nobody

	saved   *Saved            // of a hub: taken in place of its commit and listing
	names   map[string]string // of tests: dialled in place of HOST:PORT
	stall   time.Duration     // without a byte before a new connection (0: 30 s)
	backoff time.Duration     // first wait after a failure (0: 0.5 s)
	allowed time.Duration     // of waiting that servers ask for, before it counts (0: maxAsked)
}

// MaxConnections bounds Options.Connections.
const MaxConnections = 64

func (o *Options) defaults() error {
	if o.Connections == 0 {
		o.Connections = 8
	}
	if o.Connections < 1 || o.Connections > MaxConnections {
		return &source.Error{Kind: source.ErrAddress, Where: "connections", Reason: "must be 1 to 64"}
	}
	if o.RetryFor <= 0 {
		o.RetryFor = 5 * time.Minute
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.stall <= 0 {
		o.stall = 30 * time.Second
	}
	if o.backoff <= 0 {
		o.backoff = 500 * time.Millisecond
	}
	if o.allowed <= 0 {
		o.allowed = maxAsked
	}
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		switch strings.ToUpper(o.Getenv(name)) {
		case "1", "ON", "YES", "TRUE":
			o.Offline = true
		}
	}
	return nil
}

// Memory returns the bytes that reading data takes at most, besides what the
// reader asks for.
func (o Options) Memory() int64 {
	n := o.Connections
	if n == 0 {
		n = 8
	}
	return int64(2*n+1) * blockSize // at work or read last, and waiting to be hashed
}

// first returns the first of some environment variables that is set.
func (o *Options) first(names ...string) string {
	for _, n := range names {
		if v := strings.TrimSpace(o.Getenv(n)); v != "" {
			return v
		}
	}
	return ""
}
