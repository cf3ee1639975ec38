package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Media types of the OCI image specification 1.1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// imageUser is nobody in particular: the number that distroless images use.
const imageUser = 65532

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// image writes an OCI image layout for linux on amd64 and arm64, from scratch: the
// binary, root certificates, licences, and /data, which its user may write.
func (b *build) image(out string) error {
	dir := filepath.Join(out, fmt.Sprintf("glmconv-%s-oci", b.version))
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	blob := func(mediaType string, body []byte) (descriptor, error) {
		sum := digest(body)
		return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(body)}, os.WriteFile(filepath.Join(dir, "blobs", "sha256", sum), body, 0o644)
	}
	document := func(mediaType string, v any) (descriptor, error) {
		raw, err := json.Marshal(v)
		if err != nil {
			return descriptor{}, err
		}
		return blob(mediaType, raw)
	}
	labels := map[string]string{
		"org.opencontainers.image.source": homepage, "org.opencontainers.image.revision": b.commit, "org.opencontainers.image.version": b.version,
		"org.opencontainers.image.licenses": licence, "org.opencontainers.image.created": b.time.Format(time.RFC3339), "org.opencontainers.image.title": "glmconv",
	}
	var manifests []descriptor
	for _, t := range targets {
		if t.os != "linux" {
			continue
		}
		layer, err := b.layer(out, t)
		if err != nil {
			return err
		}
		packed, err := gzipped(layer)
		if err != nil {
			return err
		}
		layers, err := blob(typeLayer, packed)
		if err != nil {
			return err
		}
		config, err := document(typeConfig, map[string]any{
			"created": b.time.Format(time.RFC3339), "architecture": t.arch, "os": t.os,
			"config": map[string]any{"User": fmt.Sprintf("%d:%d", imageUser, imageUser), "Entrypoint": []string{"/usr/bin/glmconv"}, "WorkingDir": "/data",
				"Env": []string{"PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}, "Labels": labels},
			"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
			"history": []any{map[string]any{"created": b.time.Format(time.RFC3339), "created_by": "glmconv internal/release"}},
		})
		if err != nil {
			return err
		}
		m, err := document(typeManifest, map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": []descriptor{layers}, "annotations": labels})
		if err != nil {
			return err
		}
		m.Platform = map[string]string{"os": t.os, "architecture": t.arch}
		manifests = append(manifests, m)
	}
	index, err := document(typeIndex, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests, "annotations": labels})
	if err != nil {
		return err
	}
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": b.version}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []descriptor{index}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), top, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// layer is the file system of the image.
func (b *build) layer(out string, t target) ([]byte, error) {
	binary, err := os.ReadFile(b.binary(out, t))
	if err != nil {
		return nil, err
	}
	var roots []byte
	for r := range bundle.Roots() {
		if r.Constraint == nil { // a file of certificates cannot say which ones have conditions
			roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})...)
		}
	}
	entries := []entry{
		{name: "etc/", mode: 0o755}, {name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, body: roots},
		{name: "usr/", mode: 0o755}, {name: "usr/bin/", mode: 0o755}, {name: "usr/bin/glmconv", mode: 0o755, body: binary},
		{name: "usr/share/", mode: 0o755}, {name: "usr/share/doc/", mode: 0o755}, {name: "usr/share/doc/glmconv/", mode: 0o755},
	}
	for _, name := range []string{"LICENSE", "NOTICE"} {
		body, err := os.ReadFile(filepath.Join(b.root, name))
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name: "usr/share/doc/glmconv/" + name, mode: 0o644, body: body})
	}
	entries = append(entries, entry{name: "data/", mode: 0o755, uid: imageUser})
	return tarball(entries, b.time)
}
