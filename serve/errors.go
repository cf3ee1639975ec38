package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/glmconv/glmconv/runtime"
)

// apiError is an answer that is none, in the form of vLLM's.
type apiError struct {
	status  int
	message string
	param   string
}

func (e *apiError) Error() string { return e.message }

func bad(param, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...), param}
}

var kinds = map[int]string{400: "BadRequestError", 404: "NotFoundError", 405: "MethodNotAllowedError", 413: "RequestTooLargeError", 415: "UnsupportedMediaTypeError",
	422: "UnprocessableEntityError", 429: "RateLimitError", 500: "InternalServerError", 503: "ServiceUnavailableError"}

// errorBody is the JSON of an error.
func errorBody(err error) (int, []byte) {
	e := &apiError{status: http.StatusInternalServerError, message: "the model failed"}
	if runtime.Uncomputable(err) { // what is wrong with the folder, in names of its tensors
		e.message += ": " + err.Error()
	}
	var api *apiError
	switch {
	case errors.As(err, &api):
		e = api
	case errors.Is(err, errBusy):
		e = &apiError{status: http.StatusTooManyRequests, message: "too many requests wait already"}
	case errors.Is(err, errLoading):
		e = &apiError{status: http.StatusServiceUnavailable, message: "the model is being loaded"}
	case errors.Is(err, errClosed):
		e = &apiError{status: http.StatusServiceUnavailable, message: "the server is stopping"}
	}
	var param any
	if e.param != "" {
		param = e.param
	}
	inner := map[string]any{"message": e.message, "type": kinds[e.status], "param": param, "code": e.status}
	if e.status == http.StatusUnauthorized {
		inner["type"], inner["code"] = "invalid_request_error", "invalid_api_key"
	}
	data, _ := json.Marshal(map[string]any{"error": inner})
	return e.status, data
}

func writeError(w http.ResponseWriter, err error) {
	status, data := errorBody(err)
	if status == http.StatusTooManyRequests || errors.Is(err, errLoading) {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a client that is gone needs no answer
}
