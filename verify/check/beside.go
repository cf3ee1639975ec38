package check

import (
	"context"
	"strings"

	"github.com/glmconv/glmconv/verify/companion"
)

// besideCodes are the codes of what package companion finds.
var besideCodes = map[companion.Kind]string{
	companion.Unreadable:  "beside-unreadable",
	companion.TokenIDs:    "token-ids",
	companion.EndTokens:   "end-tokens",
	companion.Template:    "chat-template",
	companion.MediaTokens: "media-tokens",
	companion.Patches:     "preprocessor-patches",
}

// checkCompanions looks at tokenizer, template, generation settings and
// preprocessors: engines fail on them at start, or answer otherwise.
func (s *subject) checkCompanions(ctx context.Context, _ *meter) error {
	faults, err := companion.Examine(ctx, s.dir, s.cfg)
	if err != nil {
		return err
	}
	pointers := map[string]bool{}
	for _, f := range s.report.Findings {
		pointers[f.Where] = pointers[f.Where] || f.Code == "lfs-pointer"
	}
	for _, f := range faults {
		if file, _, _ := strings.Cut(f.Where, ": "); pointers[file] {
			continue
		}
		x := s.add(besideCodes[f.Kind], f.Where, "%s", f.Detail)
		if f.Mild {
			x.as(Warning)
		}
	}
	return nil
}
