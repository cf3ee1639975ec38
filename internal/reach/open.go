package reach

import (
	"context"
)

// Open reads the listing of an address. The source must be closed. With
// Options.Full a source that publishes no hash of a shard is refused.
func Open(ctx context.Context, text string, o Options) (*Source, error) {
	s, err := open(ctx, text, o)
	if err != nil || !o.Full {
		return s, err
	}
	if err := s.hashable(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func open(ctx context.Context, text string, o Options) (*Source, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	a, err := parse(text, o.hubBase())
	if err != nil {
		return nil, err
	}
	c, err := newClient(o)
	if err != nil {
		return nil, err
	}
	if o.Offline && o.Cache != "" && o.saved == nil {
		return openKept(ctx, c, a)
	}
	s, err := openAt(ctx, c, a)
	if err == nil {
		s.keepListing(a)
	}
	return s, err
}

func openAt(ctx context.Context, c *client, a address) (*Source, error) {
	switch a.scheme {
	case "hf":
		return openHub(ctx, c, a)
	case "ms":
		return openScope(ctx, c, a)
	case "s3":
		return openStore(ctx, c, a)
	case "gs":
		return openGoogle(ctx, c, a)
	case "az":
		return openAzure(ctx, c, a)
	default:
		return openWeb(ctx, c, a)
	}
}

// CheckAddress reports what is wrong with the grammar of an address.
func CheckAddress(text string) error {
	_, err := parse(text, "")
	return err
}

// AtCommitOf returns the address of a source that was read before, name, where text
// is the same repository at no revision, or (moved) at one that may have moved
// since; else text.
func AtCommitOf(text, name string, moved bool, o Options) string {
	if o.defaults() != nil {
		return text
	}
	a, err := parse(text, o.hubBase())
	if err != nil || a.scheme != "hf" || commitID().MatchString(a.rev) || a.rev != "" && !moved {
		return text
	}
	b, err := parse(name, "")
	if err != nil || b.scheme != "hf" || b.id != a.id || b.sub != a.sub || !commitID().MatchString(b.rev) {
		return text
	}
	return name
}

// Repository returns the name and revision of an address hf://ORG/NAME[@REV].
func Repository(text string) (id, rev string, err error) {
	a, err := parse(text, "")
	switch {
	case err != nil:
		return "", "", err
	case a.scheme != "hf" || a.sub != "":
		return "", "", badAddress(text, "is not the address of a repository, hf://ORG/NAME[@REV]")
	}
	return a.id, a.rev, nil
}
