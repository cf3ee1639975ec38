package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// formula writes the Homebrew formula, with the checksums of the four archives.
func (b *build) formula(out string) error {
	var s strings.Builder
	fmt.Fprintf(&s, "class Glmconv < Formula\n  desc \"%s\"\n  homepage \"%s\"\n  version \"%s\"\n  license \"%s\"\n", summary, homepage, b.version, licence)
	for _, system := range []struct{ os, brew string }{{"darwin", "macos"}, {"linux", "linux"}} {
		fmt.Fprintf(&s, "\n  on_%s do\n", system.brew)
		for _, arch := range []struct{ arch, brew string }{{"arm64", "arm"}, {"amd64", "intel"}} {
			name := b.archiveName(target{system.os, arch.arch})
			raw, err := os.ReadFile(filepath.Join(out, name))
			if err != nil {
				return err
			}
			fmt.Fprintf(&s, "    on_%s do\n      url \"%s/releases/download/v%s/%s\"\n      sha256 \"%s\"\n    end\n", arch.brew, homepage, b.version, name, digest(raw))
		}
		s.WriteString("  end\n")
	}
	s.WriteString(`
  def install
    bin.install "glmconv"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/glmconv.bash" => "glmconv"
    zsh_completion.install "completions/_glmconv"
    fish_completion.install "completions/glmconv.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/glmconv version")
    system bin/"glmconv", "demo", "--report", ""
  end
end
`)
	return os.WriteFile(filepath.Join(out, "glmconv.rb"), []byte(s.String()), 0o644)
}
