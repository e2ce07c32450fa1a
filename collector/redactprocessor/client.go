package redactprocessor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	protobuf     = "application/x-protobuf"
	itemsName    = "X-Otel-Telemetry-Items"
	rejectedName = "X-Otel-Telemetry-Rejected"
	problemName  = "X-Otel-Telemetry-Problem"
	dialTimeout  = 2 * time.Second
	idleTimeout  = 10 * time.Second // the redactor closes after 15 s: who closes first knows of it
	mostOfError  = 64 << 10
	mostPooled   = 8 << 20
)

// permanent is an error that the same batch meets each time.
type permanent struct{ error }

func isPermanent(err error) bool { return errors.As(err, &permanent{}) }

// busy is an error with the time after which the redactor wants to be asked again.
type busy struct {
	error
	after time.Duration
}

func retryAfter(err error) time.Duration {
	var found busy
	if errors.As(err, &found) {
		return found.after
	}
	return 0
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// answer is a whole answer of the redactor. Its body is good until it is released.
type answer struct {
	body            *bytes.Buffer
	items, rejected int
	problem         string
}

func (a *answer) release() {
	if a.body.Cap() <= mostPooled {
		bodies.Put(a.body)
	}
}

// client asks the redactor, over connections that it keeps.
type client struct {
	http      *http.Client
	transport *http.Transport
	address   string
	key       string
	most      int64
}

func newClient(config *Config, signal string) (*client, error) {
	target, err := targetOf(config.Endpoint)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{ // no proxy: what is sent is not redacted yet
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, target.network, target.address)
		},
		DisableCompression:  true,
		MaxConnsPerHost:     config.MaxConnections,
		MaxIdleConnsPerHost: config.MaxConnections,
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
	}
	return &client{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // nowhere else
		},
		transport: transport,
		address:   target.base + "/v1/redact/" + signal,
		key:       string(config.APIKey),
		most:      config.MaxAnswerBytes,
	}, nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// ask sends a batch and returns a whole answer, or an error.
func (c *client) ask(ctx context.Context, body []byte) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", protobuf)
	if c.key != "" {
		request.Header.Set("X-Api-Key", c.key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the redactor does not answer: %w", withoutAddress(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, refusal(response)
	}
	return c.read(response)
}

func (c *client) read(response *http.Response) (*answer, error) {
	if !isProtobuf(response) || response.Header.Get("Content-Encoding") != "" {
		return nil, errors.New("what answers is no redactor: the content type of its answer is another one")
	}
	items, err := count(response.Header, itemsName)
	if err != nil {
		return nil, err
	}
	rejected, err := count(response.Header, rejectedName)
	if err != nil {
		return nil, err
	}
	if response.ContentLength > c.most {
		return nil, permanent{fmt.Errorf("the answer is larger than max_answer_bytes, %d", c.most)}
	}
	problem, _ := url.PathUnescape(response.Header.Get(problemName))
	found := &answer{body: bodies.Get().(*bytes.Buffer), items: items, rejected: rejected, problem: problem}
	found.body.Reset()
	size, err := found.body.ReadFrom(io.LimitReader(response.Body, c.most+1))
	switch {
	case err != nil:
		found.release()
		return nil, fmt.Errorf("the answer of the redactor broke off after %d bytes", size)
	case size > c.most:
		found.release()
		return nil, permanent{fmt.Errorf("the answer is larger than max_answer_bytes, %d", c.most)}
	}
	return found, nil
}

// refusal is the error of an answer that is no success. Only the redactor itself can say that it is for good.
func refusal(response *http.Response) error {
	told, _ := io.ReadAll(io.LimitReader(response.Body, mostOfError))
	status := &statuspb.Status{}
	message := ""
	own := isProtobuf(response) && proto.Unmarshal(told, status) == nil && status.GetMessage() != ""
	if own {
		message = ": " + status.GetMessage()
	}
	err := fmt.Errorf("the redactor answered %d%s", response.StatusCode, message)
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusInternalServerError:
		if own {
			return permanent{err}
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return busy{err, time.Duration(max(seconds, 0)) * time.Second}
	}
	return err
}

func isProtobuf(response *http.Response) bool {
	given, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return err == nil && given == protobuf
}

func count(headers http.Header, name string) (int, error) {
	value, err := strconv.ParseUint(headers.Get(name), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("what answers is no redactor: it does not say %s", name)
	}
	return int(value), nil
}

// withoutAddress leaves out what http.Client puts before each error: the address is in the log already.
func withoutAddress(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
