package redactprocessor

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	personal = "jane@example.com"
	clean    = "[REDACTED_EMAIL]"
)

// serve runs an HTTP server on a Unix socket, in the redactor's place, and returns its endpoint.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.sock")
	listening, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listening) }()
	t.Cleanup(func() { _ = server.Close() })
	return "unix://" + path
}

// redacting answers as the redactor does: the value is replaced by one of the same length, so that lengths stay true.
func redacting(items, rejected int) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		respond(response, strings.ReplaceAll(string(body), personal, clean), items, rejected)
	}
}

func respond(response http.ResponseWriter, body string, items, rejected int) {
	response.Header().Set("Content-Type", protobuf)
	response.Header().Set(itemsName, strconv.Itoa(items))
	response.Header().Set(rejectedName, strconv.Itoa(rejected))
	_, _ = io.WriteString(response, body)
}

func status(response http.ResponseWriter, code int, message string) {
	body, _ := proto.Marshal(&statuspb.Status{Code: 13, Message: message})
	response.Header().Set("Content-Type", protobuf)
	response.WriteHeader(code)
	_, _ = response.Write(body)
}

func spans(names ...string) ptrace.Traces {
	found := ptrace.NewTraces()
	scope := found.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for number, name := range names {
		span := scope.Spans().AppendEmpty()
		span.SetName(name)
		span.SetTraceID([16]byte{1})
		span.SetSpanID([8]byte{byte(number + 1)})
	}
	return found
}

func impatient(endpoint string) *Config {
	config := defaultConfig()
	config.Endpoint = endpoint
	config.Timeout = 500 * time.Millisecond
	config.RetryInterval = 5 * time.Millisecond
	return config
}

func tracesOf(t *testing.T, config *Config, next *consumertest.TracesSink) processor.Traces {
	t.Helper()
	set := processortest.NewNopSettings(componentType)
	made, err := NewFactory().CreateTraces(context.Background(), set, config, next)
	require.NoError(t, err)
	require.NoError(t, made.Start(context.Background(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, made.Shutdown(context.Background())) })
	return made
}

func names(sink *consumertest.TracesSink) []string {
	var found []string
	for _, batch := range sink.AllTraces() {
		spans := batch.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
		for number := range spans.Len() {
			found = append(found, spans.At(number).Name())
		}
	}
	return found
}

func TestTheSettingsAreOnesThatACollectorCanRead(t *testing.T) {
	factory := NewFactory()
	require.NoError(t, componenttest.CheckConfigStruct(factory.CreateDefaultConfig()))
	require.NoError(t, defaultConfig().Validate())
	require.Equal(t, "otel_telemetry", factory.Type().String())
}

func TestAnEndpointIsOnThisMachine(t *testing.T) {
	for endpoint, problem := range map[string]string{
		"unix:///run/otel-telemetry/redactor.sock": "",
		"http://127.0.0.1:4319":                    "",
		"http://[::1]:4319/":                       "",
		"http://localhost:4319":                    "",
		"unix://redactor.sock":                     "absolute",
		"unix:///" + strings.Repeat("x", 120):      "at most",
		"http://gateway.internal:4319":             "not on this machine",
		"http://10.1.2.3:4319":                     "not on this machine",
		"http://127.0.0.1":                         "port",
		"http://127.0.0.1:4319/v1/traces":          "no more",
		"https://127.0.0.1:4319":                   "neither",
		"":                                         "neither",
		"http://a b":                               "no address",
	} {
		config := defaultConfig()
		config.Endpoint = endpoint
		if problem == "" {
			require.NoError(t, config.Validate(), endpoint)
		} else {
			require.ErrorContains(t, config.Validate(), problem, endpoint)
		}
	}
	config := &Config{Endpoint: "http://127.0.0.1:4319"}
	for _, name := range []string{"timeout", "retry_interval", "max_connections", "max_answer_bytes"} {
		require.ErrorContains(t, config.Validate(), name)
	}
}

func TestEachSignalGoesOnRedacted(t *testing.T) {
	ctx, set := context.Background(), processortest.NewNopSettings(componentType)
	paths := make(chan string, 3)
	config := impatient(serve(t, func(response http.ResponseWriter, request *http.Request) {
		require.Equal(t, "k1", request.Header.Get("x-api-key"))
		paths <- request.URL.Path
		redacting(1, 0)(response, request)
	}))
	config.APIKey = "k1"

	seen := &consumertest.TracesSink{}
	require.NoError(t, tracesOf(t, config, seen).ConsumeTraces(ctx, spans(personal)))
	require.Equal(t, []string{clean}, names(seen))

	records := plog.NewLogs()
	records.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr(personal)
	said := &consumertest.LogsSink{}
	logs, err := NewFactory().CreateLogs(ctx, set, config, said)
	require.NoError(t, err)
	require.NoError(t, logs.ConsumeLogs(ctx, records))
	require.Equal(t, clean, said.AllLogs()[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body().Str())
	require.Equal(t, personal, records.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body().Str())

	points := pmetric.NewMetrics()
	gauge := points.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	gauge.SetEmptyGauge().DataPoints().AppendEmpty().Attributes().PutStr("to", personal)
	counted := &consumertest.MetricsSink{}
	metrics, err := NewFactory().CreateMetrics(ctx, set, config, counted)
	require.NoError(t, err)
	require.NoError(t, metrics.ConsumeMetrics(ctx, points))
	point := counted.AllMetrics()[0].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0)
	require.Equal(t, map[string]any{"to": clean}, point.Attributes().AsRaw())

	require.Equal(t, "/v1/redact/traces", <-paths)
	require.Equal(t, "/v1/redact/logs", <-paths)
	require.Equal(t, "/v1/redact/metrics", <-paths)
}

func TestWhatIsNoWholeAnswerIsRetriedAndNeverPassedOn(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"garbage":              func(w http.ResponseWriter, _ *http.Request) { respond(w, "\xff\xff no protobuf", 1, 0) },
		"nothing":              func(w http.ResponseWriter, _ *http.Request) { respond(w, "", 1, 0) },
		"no content":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"fewer than it says":   redacting(2, 0),
		"more than it got":     redacting(1, 1),
		"less than it got":     func(w http.ResponseWriter, _ *http.Request) { respond(w, "", 0, 0) },
		"no counts":            func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", protobuf) },
		"the batch, as a page": func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
		"another redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", 307) },
		"packed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			redacting(1, 0)(w, r)
		},
		"half a body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			redacting(1, 0)(w, r)
		},
		"a proxy's 500": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 500) },
		"a proxy's 400": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 400) },
		"no key":        func(w http.ResponseWriter, _ *http.Request) { status(w, 401, "a valid key is needed") },
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			status(w, 429, "too much is being worked on")
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"a connection that breaks": func(w http.ResponseWriter, _ *http.Request) {
			connection, _, _ := w.(http.Hijacker).Hijack()
			_ = connection.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink := &consumertest.TracesSink{}
			err := tracesOf(t, impatient(serve(t, handler)), sink).ConsumeTraces(context.Background(), spans(personal))
			require.Error(t, err)
			require.False(t, consumererror.IsPermanent(err), err)
			require.NotContains(t, err.Error(), personal)
			require.Empty(t, sink.AllTraces())
		})
	}
}

func TestARedactorThatIsAwayIsRetried(t *testing.T) {
	sink := &consumertest.TracesSink{}
	config := impatient("unix://" + filepath.Join(t.TempDir(), "nobody.sock"))
	err := tracesOf(t, config, sink).ConsumeTraces(context.Background(), spans(personal))
	require.ErrorContains(t, err, "does not answer")
	require.False(t, consumererror.IsPermanent(err))
	require.Empty(t, sink.AllTraces())
}

func TestWhatCanNeverSucceedIsPermanent(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"too large":    func(w http.ResponseWriter, _ *http.Request) { status(w, 413, "the request is larger") },
		"malformed":    func(w http.ResponseWriter, _ *http.Request) { status(w, 400, "the body is not valid") },
		"not redacted": func(w http.ResponseWriter, _ *http.Request) { status(w, 500, "redaction failed") },
		"all left out": func(w http.ResponseWriter, _ *http.Request) { respond(w, "", 0, 1) },
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) {
			respond(w, strings.Repeat("x", 1<<20), 1, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			config := impatient(serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				handler(w, r)
			}))
			config.MaxAnswerBytes = 1 << 16
			sink := &consumertest.TracesSink{}
			err := tracesOf(t, config, sink).ConsumeTraces(context.Background(), spans(personal))
			require.True(t, consumererror.IsPermanent(err), err)
			require.EqualValues(t, 1, asked.Load())
			require.Empty(t, sink.AllTraces())
		})
	}
}

func TestAPauseOfTheRedactorIsWaitedFor(t *testing.T) {
	var asked atomic.Int32
	config := impatient(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 4 {
			status(w, 503, "not now")
			return
		}
		redacting(1, 0)(w, r)
	}))
	config.Timeout = 20 * time.Second
	sink := &consumertest.TracesSink{}
	require.NoError(t, tracesOf(t, config, sink).ConsumeTraces(context.Background(), spans(personal)))
	require.Equal(t, []string{clean}, names(sink))
	require.EqualValues(t, 4, asked.Load())
}

func TestTheDeadlineOfTheCallerGoesBeforeOurs(t *testing.T) {
	config := impatient("unix://" + filepath.Join(t.TempDir(), "nobody.sock"))
	config.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := tracesOf(t, config, &consumertest.TracesSink{}).ConsumeTraces(ctx, spans("ask"))
	require.Error(t, err)
	require.False(t, consumererror.IsPermanent(err))
}

func TestWhatIsLeftOutIsCountedAndTheRestGoesOn(t *testing.T) {
	reader := componenttest.NewTelemetry()
	defer func() { require.NoError(t, reader.Shutdown(context.Background())) }()
	set := processortest.NewNopSettings(componentType)
	set.TelemetrySettings = reader.NewTelemetrySettings()
	sink := &consumertest.TracesSink{}
	config := impatient(serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := traces.encode(spans("good"))
		w.Header().Set(problemName, "spans[1].span_id: 0 bytes, must be 8")
		respond(w, string(body), 1, 1)
	}))
	made, err := NewFactory().CreateTraces(context.Background(), set, config, sink)
	require.NoError(t, err)
	require.NoError(t, made.ConsumeTraces(context.Background(), spans("good", "bad")))
	require.Equal(t, []string{"good"}, names(sink))
	counted, err := reader.GetMetric("otelcol_processor_otel_telemetry_items")
	require.NoError(t, err)
	require.NotNil(t, counted)
	require.NoError(t, made.Shutdown(context.Background()))
}

func TestAShutdownLeavesNothingBehind(t *testing.T) {
	processortest.VerifyShutdown(t, NewFactory(), impatient(serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		items := 0
		switch r.URL.Path {
		case "/v1/redact/traces":
			found, _ := traces.decode(body)
			items = traces.count(found)
		case "/v1/redact/logs":
			found, _ := logs.decode(body)
			items = logs.count(found)
		default:
			found, _ := metrics.decode(body)
			items = metrics.count(found)
		}
		respond(w, string(body), items, 0)
	})))
}
