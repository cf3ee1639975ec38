package main

import (
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// component is a module in CycloneDX 1.5.
type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

// sbom writes, for each binary, the modules that it says it was built from.
func (b *build) sbom(out string) error {
	for _, t := range targets {
		info, err := buildinfo.ReadFile(b.binary(out, t))
		if err != nil {
			return err
		}
		binary, err := os.ReadFile(b.binary(out, t))
		if err != nil {
			return err
		}
		purl := func(path, version string) string { return "pkg:golang/" + path + "@" + version }
		self := component{"application", "glmconv", "glmconv", b.version, purl(info.Main.Path, "v"+b.version), []hash{{"SHA-256", digest(binary)}}}
		list := []component{{"platform", "go", "go", info.GoVersion, purl("std", strings.TrimPrefix(info.GoVersion, "go")), nil}}
		for _, m := range info.Deps {
			c := component{Type: "library", Ref: purl(m.Path, m.Version), Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version)}
			c.Hashes = nil // h1: sums are not over files
			list = append(list, c)
		}
		var refs []string
		for _, c := range list {
			refs = append(refs, c.Ref)
		}
		doc := map[string]any{
			"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "serialNumber": "urn:uuid:" + uuid(digest(binary)),
			"metadata":     map[string]any{"timestamp": b.time.Format(time.RFC3339), "component": self},
			"components":   list,
			"dependencies": []any{map[string]any{"ref": self.Ref, "dependsOn": refs}},
		}
		raw, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(b.archiveName(t), ".tar.gz") + ".cdx.json"
		if err := os.WriteFile(filepath.Join(out, name), append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// uuid makes an RFC 9562 identifier of version 8 of a digest.
func uuid(digest string) string {
	raw, err := hex.DecodeString(digest[:32])
	if err != nil {
		return ""
	}
	raw[6], raw[8] = raw[6]&0x0f|0x80, raw[8]&0x3f|0x80
	s := hex.EncodeToString(raw)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
