package s3

import (
	"encoding/xml"
	"io"
	"net/http"
)

// Error is an answer of refusal.
type Error struct {
	Status    int    // 200 where the refusal came in the body of an answer of success
	Code      string // "NoSuchKey", "AccessDenied", …
	Message   string
	RequestID string
	Key       string

	region string // of the bucket, where the answer names it
}

func (e *Error) Error() string {
	if e.Message == "" || e.Message == e.Code {
		return "the store answers " + e.Code
	}
	return "the store answers " + e.Code + ": " + e.Message
}

// KeysError says why there are no credentials. No request was sent.
type KeysError struct{ Err error }

func (e *KeysError) Error() string { return "credentials: " + e.Err.Error() }
func (e *KeysError) Unwrap() error { return e.Err }

// codes are what an answer without text means.
var codes = map[int]string{
	http.StatusForbidden: "AccessDenied", http.StatusConflict: "Conflict", http.StatusPreconditionFailed: "PreconditionFailed",
	http.StatusRequestedRangeNotSatisfiable: "InvalidRange", http.StatusNotImplemented: "NotImplemented", http.StatusServiceUnavailable: "ServiceUnavailable",
	http.StatusTooManyRequests: "SlowDown", http.StatusInternalServerError: "InternalError",
}

// refusal reads an answer that is none of success, and closes it.
func (c *Client) refusal(res *http.Response, r request) *Error {
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // what came is what there is
	if e := c.refusalIn(res, text, r); e != nil {
		return e
	}
	code := codes[res.StatusCode]
	switch {
	case res.StatusCode == http.StatusNotFound && r.key == "":
		code = "NoSuchBucket"
	case res.StatusCode == http.StatusNotFound:
		code = "NoSuchKey"
	case code == "":
		code = http.StatusText(res.StatusCode)
	}
	return c.told(res, r, code, "", "")
}

// refusalIn returns what the text of an answer refuses with, nil if it does not.
func (c *Client) refusalIn(res *http.Response, text []byte, r request) *Error {
	var e struct {
		XMLName                          xml.Name `xml:"Error"`
		Code, Message, Region, RequestId string
	}
	if xml.Unmarshal(text, &e) != nil || e.Code == "" {
		return nil
	}
	out := c.told(res, r, e.Code, e.Message, e.Region)
	if out.RequestID == "" {
		out.RequestID = e.RequestId
	}
	return out
}

func (c *Client) told(res *http.Response, r request, code, message, region string) *Error {
	if h := res.Header.Get("X-Amz-Bucket-Region"); h != "" {
		region = h
	}
	return &Error{Status: res.StatusCode, Code: code, Message: message, RequestID: res.Header.Get("X-Amz-Request-Id"), Key: r.key, region: region}
}
