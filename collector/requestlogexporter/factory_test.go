package requestlogexporter

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func TestTheSettingsAreThoseOfOtlpHttpWithAKey(t *testing.T) {
	factory := NewFactory()
	require.NoError(t, componenttest.CheckConfigStruct(factory.CreateDefaultConfig()))
	config := factory.CreateDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"endpoint": "https://gateway.internal:4318", "api_key": "k1", "compression": "gzip",
		"sending_queue": map[string]any{"queue_size": 7},
	}).Unmarshal(config))
	require.NoError(t, config.Validate())
	require.Equal(t, "https://gateway.internal:4318", config.ClientConfig.Endpoint)
	require.EqualValues(t, 7, config.QueueConfig.Get().QueueSize)
	require.True(t, config.QueueConfig.Get().BlockOnOverflow)
	require.Zero(t, config.RetryConfig.MaxElapsedTime)
	config.ClientConfig.Headers = configopaque.MapList{{Name: "X-Api-Key", Value: "k2"}}
	require.ErrorContains(t, config.Validate(), "api_key")
}

func TestEachSignalArrivesWithTheKey(t *testing.T) {
	arrived := make(chan string, 3)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		if len(body) > 0 && request.Header.Get("x-api-key") == "k1" && request.Header.Get("content-encoding") == "" {
			arrived <- request.URL.Path
		}
	}))
	defer server.Close()
	factory := NewFactory()
	config := factory.CreateDefaultConfig().(*Config)
	config.ClientConfig.Endpoint = server.URL
	config.APIKey = "k1"
	ctx, set := context.Background(), exportertest.NewNopSettings(factory.Type())

	traces, err := factory.CreateTraces(ctx, set, config)
	require.NoError(t, err)
	logs, err := factory.CreateLogs(ctx, set, config)
	require.NoError(t, err)
	metrics, err := factory.CreateMetrics(ctx, set, config)
	require.NoError(t, err)
	for _, one := range []interface {
		Start(context.Context, component.Host) error
		Shutdown(context.Context) error
	}{traces, logs, metrics} {
		require.NoError(t, one.Start(ctx, componenttest.NewNopHost()))
		defer func() { require.NoError(t, one.Shutdown(ctx)) }()
	}

	spans := ptrace.NewTraces()
	spans.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("ask")
	require.NoError(t, traces.ConsumeTraces(ctx, spans))
	records := plog.NewLogs()
	records.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("said")
	require.NoError(t, logs.ConsumeLogs(ctx, records))
	points := pmetric.NewMetrics()
	gauge := points.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	gauge.SetEmptyGauge().DataPoints().AppendEmpty().SetIntValue(1)
	require.NoError(t, metrics.ConsumeMetrics(ctx, points))

	paths := map[string]bool{}
	for range 3 {
		select {
		case path := <-arrived:
			paths[path] = true
		case <-time.After(30 * time.Second):
			t.Fatal("not all of it arrived")
		}
	}
	require.Equal(t, map[string]bool{"/v1/traces": true, "/v1/logs": true, "/v1/metrics": true}, paths)
}
