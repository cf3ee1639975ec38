package main

import (
	"fmt"
	"path"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/reach"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/source"
)

// destination returns the name under which a result is written, and whether it is
// a bucket: the only address that is a destination, and of quantize alone.
func destination(c *cli.Context, i int, arg string) (name string, ok bool, err error) {
	if c.Command.Name != "quantize" || i != 1 || source.Scheme(arg) == "" {
		return "", false, nil
	}
	name, err = reach.BucketName(arg)
	return name, err == nil, err
}

// writeBucket makes a conversion write into the bucket that an argument names.
// close ends its connections.
func writeBucket(c *cli.Context, arg string, p *quant.Plan, o *convert.Options) (closing func(), err error) {
	if source.Scheme(arg) == "" {
		return func() {}, nil
	}
	ro, err := remoteOptions(c)
	if err != nil {
		return nil, err
	}
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	held := reach.BucketMemory(ro, workers)
	if o.MaxMemory < held+held/2 {
		return nil, usagef("--max-memory %s is too little for writing into a bucket, which takes %d MiB with %d workers: allow more, or fewer --workers and --connections",
			c.String("max-memory"), held>>20, workers)
	}
	b, err := reach.OpenBucket(c.Context, arg, ro, reach.BucketOptions{Fingerprint: p.Fingerprint, Force: c.Bool("force"),
		Once: []string{path.Join(fsx.StateDir, "plan"), quant.ManifestName}})
	if err != nil {
		return nil, err
	}
	o.MaxMemory -= held
	o.FS = b
	r := remotesOf(c)
	r.written = b
	return func() { _ = b.Close() }, nil
}

// uploadLine says what a result costs in a bucket.
func uploadLine(p *quant.Plan) string {
	var puts, bytes int64
	for i := range p.Files {
		puts += reach.Puts(p.Files[i].Plan.Size) + 1 // and its receipt
		bytes += p.Files[i].Plan.Size
	}
	for _, s := range p.Sidecars {
		puts++
		bytes += s.Size
	}
	puts += int64(len(p.Configs)) + 3 // index, plan and manifest
	return fmt.Sprintf("  upload        %s in %d requests that write\n", progress.Bytes(bytes), puts)
}
