package reach

import (
	"context"
)

// Open reads the listing of an address. The source must be closed.
func Open(ctx context.Context, text string, o Options) (*Source, error) {
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
	switch a.scheme {
	case "hf":
		return openHub(ctx, c, a)
	case "ms":
		return openScope(ctx, c, a)
	case "s3":
		return openStore(ctx, c, a)
	default:
		return openWeb(ctx, c, a)
	}
}

// CheckAddress reports what is wrong with the grammar of an address.
func CheckAddress(text string) error {
	_, err := parse(text, "")
	return err
}
