package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers the form
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// maintainer of packages; the project has no single address.
const maintainer = "glmconv maintainers <maintainers@glmconv.invalid>"

// overrides tells lintian what a Go program is: one static file.
const overrides = "glmconv: statically-linked-binary [usr/bin/glmconv]\n"

func (b *build) packageName(kind string, t target) string {
	if kind == "rpm" {
		return fmt.Sprintf("glmconv-%s.%s.rpm", b.version, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[t.arch])
	}
	return fmt.Sprintf("glmconv_%s_%s.deb", b.version, t.arch)
}

// packages writes the deb or rpm of a platform.
func (b *build) packages(out, kind string, t target, binary []byte, texts []text) error {
	dir, err := os.MkdirTemp(out, "package")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var contents files.Contents
	add := func(place string, mode os.FileMode, body []byte) error {
		if strings.HasSuffix(place, ".gz") {
			if body, err = gzipped(body); err != nil {
				return err
			}
		}
		from := filepath.Join(dir, fmt.Sprint(len(contents)))
		if err := os.WriteFile(from, body, mode); err != nil {
			return err
		}
		contents = append(contents, &files.Content{Source: from, Destination: place,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: b.time}})
		return nil
	}
	if err := add("/usr/bin/glmconv", 0o755, binary); err != nil {
		return err
	}
	for _, x := range texts {
		if x.place == "" || kind == "rpm" && strings.Contains(x.place, "/zsh/") {
			continue
		}
		if err := add(x.place, 0o644, x.body); err != nil {
			return err
		}
	}
	docs := map[string][]byte{"/usr/share/doc/glmconv/copyright": []byte(copyright)}
	if kind == "deb" {
		docs["/usr/share/doc/glmconv/changelog.gz"] = fmt.Appendf(nil, "glmconv (%s) unstable; urgency=medium\n\n  * See %s/blob/main/CHANGELOG.md\n\n -- %s  %s\n",
			debVersion(b.version), homepage, maintainer, b.time.Format(time.RFC1123Z))
		docs["/usr/share/lintian/overrides/glmconv"] = []byte(overrides)
	}
	for _, place := range []string{"/usr/share/doc/glmconv/copyright", "/usr/share/doc/glmconv/changelog.gz", "/usr/share/lintian/overrides/glmconv"} {
		if body := docs[place]; body != nil {
			if err := add(place, 0o644, body); err != nil {
				return err
			}
		}
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "glmconv", Arch: t.arch, Platform: "linux", Version: b.version, VersionSchema: "semver", Section: "science", Priority: "optional",
		Maintainer: maintainer, Description: summary + "\n" + about, Homepage: homepage, License: licence, MTime: b.time,
		Overridables: nfpm.Overridables{Contents: contents, RPM: nfpm.RPM{BuildHost: "localhost"}},
	})
	packager, err := nfpm.Get(kind)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := packager.Package(info, &buf); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, b.packageName(kind, t)), buf.Bytes(), 0o644)
}

func debVersion(version string) string { return strings.Replace(version, "-", "~", 1) }

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: glmconv
Source: ` + homepage + `

Files: *
Copyright: the glmconv authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
 Licences of the modules in the binary are in /usr/share/doc/glmconv/NOTICE.
`
