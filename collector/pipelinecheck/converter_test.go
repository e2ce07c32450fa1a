package pipelinecheck

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"gopkg.in/yaml.v3"
)

func check(t *testing.T, text string) (error, []string) {
	t.Helper()
	var raw map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &raw))
	core, logged := observer.New(zap.WarnLevel)
	converter := NewFactory().Create(confmap.ConverterSettings{Logger: zap.New(core)})
	conf := confmap.NewFromStringMap(raw)
	before := conf.ToStringMap()
	err := converter.Convert(context.Background(), conf)
	require.Equal(t, before, conf.ToStringMap())
	var said []string
	for _, entry := range logged.All() {
		said = append(said, entry.Message)
	}
	return err, said
}

func TestDataThatGoesAroundTheProcessorIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"another pipeline of the receiver": `
service: {pipelines: {
  traces: {receivers: [otlp], processors: [otel_telemetry], exporters: [otlp]},
  traces/raw: {receivers: [otlp], processors: [batch], exporters: [debug]}}}`,
		"another signal of the receiver": `
service: {pipelines: {
  traces: {receivers: [otlp], processors: [memory_limiter, otel_telemetry/strict], exporters: [otlp]},
  logs: {receivers: [filelog, otlp], exporters: [debug]}}}`,
		"a pipeline behind a connector": `
connectors: {forward/all: null}
service: {pipelines: {
  traces/in: {receivers: [otlp], exporters: [forward/all]},
  traces/clean: {receivers: [forward/all], processors: [otel_telemetry], exporters: [otlp]},
  traces/raw: {receivers: [forward/all], exporters: [debug]}}}`,
		"an exporter beside a connector": `
connectors: {forward: null}
service: {pipelines: {
  traces/in: {receivers: [otlp], exporters: [forward, debug]},
  traces/clean: {receivers: [forward], processors: [otel_telemetry], exporters: [otlp]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			err, _ := check(t, text)
			require.ErrorContains(t, err, "service::pipelines::")
			require.ErrorContains(t, err, "unredacted_pipelines")
		})
	}
}

func TestDataThatIsRedactedOnItsWayIsLetThrough(t *testing.T) {
	for name, text := range map[string]string{
		"no configuration":    `{}`,
		"nothing is redacted": `service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}`,
		"all pipelines redact": `
service: {pipelines: {
  traces: {receivers: [otlp], processors: [otel_telemetry], exporters: [otlp]},
  logs: {receivers: [otlp], processors: [otel_telemetry], exporters: [otlp]}}}`,
		"another receiver": `
service: {pipelines: {
  traces: {receivers: [otlp], processors: [otel_telemetry], exporters: [otlp]},
  metrics: {receivers: [hostmetrics], exporters: [otlp]}}}`,
		"redacted in front of a connector": `
connectors: {forward: null}
service: {pipelines: {
  traces/in: {receivers: [otlp], processors: [otel_telemetry], exporters: [forward]},
  traces/out: {receivers: [forward], exporters: [debug]}}}`,
		"redacted behind a connector": `
connectors: {forward: null}
service: {pipelines: {
  traces/in: {receivers: [otlp], exporters: [forward]},
  traces/out: {receivers: [forward], processors: [otel_telemetry], exporters: [debug]}}}`,
		"connectors in a circle": `
connectors: {forward: null, back: null}
service: {pipelines: {
  traces/a: {receivers: [otlp, back], exporters: [forward]},
  traces/b: {receivers: [forward], exporters: [back]}}}`,
		"named as an exemption": `
processors: {otel_telemetry: {unredacted_pipelines: [metrics]}}
service: {pipelines: {
  traces: {receivers: [otlp], processors: [otel_telemetry], exporters: [otlp]},
  metrics: {receivers: [otlp], exporters: [debug]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			err, said := check(t, text)
			require.NoError(t, err)
			require.Empty(t, said)
		})
	}
}

func TestABatchInFrontOfTheProcessorIsWarnedOf(t *testing.T) {
	err, said := check(t, `
service: {pipelines: {traces: {receivers: [otlp], processors: [batch, otel_telemetry], exporters: [otlp]}}}`)
	require.NoError(t, err)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "lost behind a batch")
}
