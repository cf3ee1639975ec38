package s3

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// NewUpload begins an upload in parts, each of which comes with its SHA-256.
func (c *Client) NewUpload(ctx context.Context, key string, header http.Header) (id string, err error) {
	h := with(header, "X-Amz-Checksum-Algorithm", "SHA256")
	h.Set("Content-Type", "application/octet-stream")
	var answer struct{ UploadId string }
	if err := c.read(ctx, request{method: http.MethodPost, key: key, query: url.Values{"uploads": {""}}, header: h}, &answer); err != nil {
		return "", err
	}
	if answer.UploadId == "" {
		return "", errors.New("the answer has no id of an upload")
	}
	return answer.UploadId, nil
}

// PutPart writes a part of an upload, whose SHA-256 the store compares.
func (c *Client) PutPart(ctx context.Context, key, id string, number int, data []byte, sum [sha256.Size]byte) (Part, error) {
	q := url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {id}}
	h := http.Header{"X-Amz-Checksum-Sha256": {checksum(sum)}}
	got, err := c.plain(ctx, request{method: http.MethodPut, key: key, query: q, header: h, body: data, sum: &sum})
	if err != nil {
		return Part{}, err
	}
	return Part{number, bare(got.Get("ETag")), checksum(sum)}, nil
}

// Complete makes an object of the parts of an upload.
func (c *Client) Complete(ctx context.Context, key, id string, parts []Part, condition http.Header) error {
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUpload"`
		Part    []Part
	}{Part: parts})
	if err != nil {
		return err
	}
	var answer struct{ ETag string }
	return c.read(ctx, request{method: http.MethodPost, key: key, query: url.Values{"uploadId": {id}}, body: body,
		header: with(condition, "Content-Type", "application/xml")}, &answer)
}

// Abort ends an upload and drops its parts.
func (c *Client) Abort(ctx context.Context, key, id string) error {
	_, err := c.plain(ctx, request{method: http.MethodDelete, key: key, query: url.Values{"uploadId": {id}}})
	return err
}

// UploadPage is a page of a list of uploads.
type UploadPage struct {
	Uploads         []Upload
	More            bool
	NextKey, NextID string // where the next page begins
}

// Uploads lists the unfinished uploads of a prefix behind a place.
func (c *Client) Uploads(ctx context.Context, prefix, key, id string) (UploadPage, error) {
	q := url.Values{"uploads": {""}, "prefix": {prefix}, "max-uploads": {"1000"}, "encoding-type": {"url"}}
	if key != "" {
		q.Set("key-marker", key)
		if id != "" {
			q.Set("upload-id-marker", id)
		}
	}
	var page struct {
		IsTruncated                       bool
		EncodingType                      string
		NextKeyMarker, NextUploadIdMarker string
		Upload                            []Upload
	}
	if err := c.read(ctx, request{method: http.MethodGet, query: q}, &page); err != nil {
		return UploadPage{}, err
	}
	name := decoder(page.EncodingType)
	next, err := name(page.NextKeyMarker)
	for i := range page.Upload {
		if err == nil {
			page.Upload[i].Key, err = name(page.Upload[i].Key)
		}
	}
	return UploadPage{page.Upload, page.IsTruncated, next, page.NextUploadIdMarker}, err
}

// PartPage is a page of a list of parts.
type PartPage struct {
	Modified []time.Time // when each part came
	More     bool
	Next     int // where the next page begins
}

// Parts lists the parts of an upload behind a number.
func (c *Client) Parts(ctx context.Context, key, id string, after int) (PartPage, error) {
	q := url.Values{"uploadId": {id}, "max-parts": {"1000"}}
	if after > 0 {
		q.Set("part-number-marker", strconv.Itoa(after))
	}
	var page struct {
		IsTruncated          bool
		NextPartNumberMarker int
		Part                 []struct{ LastModified time.Time }
	}
	if err := c.read(ctx, request{method: http.MethodGet, key: key, query: q}, &page); err != nil {
		return PartPage{}, err
	}
	out := PartPage{More: page.IsTruncated, Next: page.NextPartNumberMarker}
	for _, p := range page.Part {
		out.Modified = append(out.Modified, p.LastModified)
	}
	return out, nil
}
