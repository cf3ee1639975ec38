package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// checkDeb installs this platform's deb below a folder, runs it and purges it.
func (b *build) checkDeb(out, scratch string) error {
	deb := filepath.Join(out, b.packageName("deb", target{"linux", hostArch}))
	if hostOS != "linux" || missing("dpkg-deb", "the deb was not installed") {
		return nil
	}
	list, err := must(scratch, "dpkg-deb", "-c", deb)
	if err != nil {
		return err
	}
	for _, want := range []string{"./usr/bin/glmconv", "./usr/share/man/man1/glmconv.1.gz", "./usr/share/man/man1/glmconv-quantize.1.gz",
		"./usr/share/bash-completion/completions/glmconv", "./usr/share/zsh/vendor-completions/_glmconv",
		"./usr/share/fish/vendor_completions.d/glmconv.fish", "./usr/share/doc/glmconv/copyright", "./usr/share/doc/glmconv/NOTICE"} {
		if !strings.Contains(list, " "+want+"\n") {
			return fmt.Errorf("it holds no %s", want)
		}
	}
	if !missing("lintian", "the deb was not checked against Debian's rules") {
		if _, err := must(scratch, "lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", "bogus-mail-host-in-debian-changelog,bogus-mail-host", deb); err != nil {
			return err
		}
		fmt.Println("deb: lintian has no error")
	}
	root := filepath.Join(scratch, "root")
	if os.Getuid() != 0 {
		_, err := must(scratch, "dpkg-deb", "-x", deb, root)
		if err != nil {
			return err
		}
		return b.tryBinary(filepath.Join(root, "usr/bin/glmconv"), scratch)
	}
	for _, d := range []string{"updates", "info"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", d), 0o755); err != nil {
			return err
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg", f), nil, 0o644); err != nil {
			return err
		}
	}
	if _, err := must(scratch, "dpkg", "--root="+root, "--log=/dev/null", "--install", deb); err != nil {
		return err
	}
	if err := b.tryBinary(filepath.Join(root, "usr/bin/glmconv"), scratch); err != nil {
		return err
	}
	if err := tryShell(root, scratch); err != nil {
		return err
	}
	if _, err := must(scratch, "dpkg", "--root="+root, "--log=/dev/null", "--purge", "glmconv"); err != nil {
		return err
	}
	if left, err := filepath.Glob(filepath.Join(root, "usr", "*", "*")); err != nil || len(left) > 0 {
		return fmt.Errorf("purging left %v: %w", left, err)
	}
	fmt.Println("deb: installed, ran the demo, purged; nothing is left")
	return nil
}

// tryShell renders the manual and completes a command by what a package installed.
func tryShell(root, scratch string) error {
	if !missing("man", "the manual was not rendered") {
		text, err := must(scratch, "env", "MANPATH="+filepath.Join(root, "usr/share/man"), "MANPAGER=cat", "TERM=dumb", "man", "glmconv")
		if err != nil {
			return err
		}
		if !strings.Contains(text, "quantize") {
			return fmt.Errorf("man glmconv shows no quantize: %.300s", text)
		}
		fmt.Println("deb: man glmconv renders")
	}
	if missing("bash", "completion was not tried") {
		return nil
	}
	script := fmt.Sprintf(`PATH='%s':$PATH; . '%s'; COMP_WORDS=(glmconv qu); COMP_CWORD=1; COMP_LINE='glmconv qu'; COMP_POINT=10
f=$(complete -p glmconv | sed 's/.*-F \([^ ]*\).*/\1/'); $f glmconv qu glmconv; printf '%%s\n' "${COMPREPLY[@]}"`,
		filepath.Join(root, "usr/bin"), filepath.Join(root, "usr/share/bash-completion/completions/glmconv"))
	out, err := must(scratch, "bash", "-c", script)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out) != "quantize" {
		return fmt.Errorf("glmconv qu<TAB> gives %q", out)
	}
	fmt.Println("deb: glmconv qu<TAB> gives quantize")
	return nil
}

// checkRPM asks rpm for the files of a package.
func (b *build) checkRPM(out, scratch string) error {
	if missing("rpm", "the packages for rpm were built and not read") {
		return nil
	}
	file := filepath.Join(out, b.packageName("rpm", target{"linux", hostArch}))
	if _, err := must(scratch, "rpm", "-K", "--nosignature", file); err != nil {
		return err
	}
	list, err := must(scratch, "rpm", "-qpl", file)
	if err != nil {
		return err
	}
	for _, want := range []string{"/usr/bin/glmconv", "/usr/share/man/man1/glmconv.1.gz", "/usr/share/bash-completion/completions/glmconv", "/usr/share/doc/glmconv/NOTICE"} {
		if !strings.Contains(list, want+"\n") {
			return fmt.Errorf("it holds no %s: %s", want, list)
		}
	}
	if hostOS != "linux" || missing("rpm2cpio", "the package for rpm was not unpacked") || missing("cpio", "the package for rpm was not unpacked") {
		return nil
	}
	if _, err := must(scratch, "sh", "-c", fmt.Sprintf("rpm2cpio '%s' | cpio -id --quiet --no-absolute-filenames", file)); err != nil {
		return err
	}
	if err := b.tryBinary(filepath.Join(scratch, "usr/bin/glmconv"), scratch); err != nil {
		return err
	}
	fmt.Println("rpm: digests hold, unpacked, ran the demo")
	return nil
}

// checkManuals reads every manual page with mandoc's checker.
func (b *build) checkManuals(out, scratch string) error {
	if missing("mandoc", "manual pages were not checked") {
		return nil
	}
	if _, err := must(scratch, "tar", "-xzf", filepath.Join(out, b.archiveName(target{"linux", "amd64"}))); err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(scratch, "*", "man", "*.1"))
	if err != nil || len(pages) < 10 {
		return fmt.Errorf("%d pages: %w", len(pages), err)
	}
	if _, err := must(scratch, "mandoc", append([]string{"-Tlint", "-Wwarning"}, pages...)...); err != nil {
		return err
	}
	fmt.Printf("manual pages: %d without a warning\n", len(pages))
	return nil
}

// formulaReader stands in for Homebrew: it reads the formula as Ruby and prints
// what it names for each system and processor.
const formulaReader = `
class Formula
  class << self
    def desc(*) end
    def homepage(*) end
    def version(*) end
    def license(*) end
    def test; end
    def on_macos; yield end
    def on_linux; yield end
    def on_arm; yield end
    def on_intel; yield end
    def url(u) print File.basename(u), " " end
    def sha256(s) puts s end
  end
end
load ARGV[0]
`

// checkFormula holds the archives that the formula names against their checksums.
func (b *build) checkFormula(out, scratch string) error {
	if missing("ruby", "the formula was not read") {
		return nil
	}
	formula := filepath.Join(out, "glmconv.rb")
	if _, err := must(scratch, "ruby", "-wc", formula); err != nil {
		return err
	}
	text, err := must(scratch, "ruby", "-e", formulaReader, formula)
	if err != nil {
		return err
	}
	named := strings.Fields(text)
	if len(named) != 2*len(targets) {
		return fmt.Errorf("it names %d archives, not %d: %s", len(named)/2, len(targets), text)
	}
	for i := 0; i < len(named); i += 2 {
		raw, err := os.ReadFile(filepath.Join(out, named[i]))
		if err != nil {
			return err
		}
		if digest(raw) != named[i+1] {
			return fmt.Errorf("%s has another checksum than the formula says", named[i])
		}
	}
	fmt.Printf("formula: read by Ruby, %d archives with their checksums\n", len(named)/2)
	return nil
}
