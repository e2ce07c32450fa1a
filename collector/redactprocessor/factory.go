package redactprocessor

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processorhelper"
)

const scopeName = "github.com/otel-telemetry/otel-telemetry/collector/redactprocessor"

var componentType = component.MustNewType("otel_telemetry")

// NewFactory makes the processor for traces, logs and metrics. A pipeline of profiles that names it does not start.
func NewFactory() processor.Factory {
	return processor.NewFactory(
		componentType,
		func() component.Config { return defaultConfig() },
		processor.WithTraces(createTraces, component.StabilityLevelBeta),
		processor.WithLogs(createLogs, component.StabilityLevelBeta),
		processor.WithMetrics(createMetrics, component.StabilityLevelBeta),
	)
}

var traces = codec[ptrace.Traces]{
	signal: "traces",
	count:  ptrace.Traces.SpanCount,
	encode: func(data ptrace.Traces) ([]byte, error) {
		return ptraceotlp.NewExportRequestFromTraces(data).MarshalProto()
	},
	decode: func(body []byte) (ptrace.Traces, error) {
		request := ptraceotlp.NewExportRequest()
		err := request.UnmarshalProto(body)
		return request.Traces(), err
	},
}

var logs = codec[plog.Logs]{
	signal: "logs",
	count:  plog.Logs.LogRecordCount,
	encode: func(data plog.Logs) ([]byte, error) {
		return plogotlp.NewExportRequestFromLogs(data).MarshalProto()
	},
	decode: func(body []byte) (plog.Logs, error) {
		request := plogotlp.NewExportRequest()
		err := request.UnmarshalProto(body)
		return request.Logs(), err
	},
}

var metrics = codec[pmetric.Metrics]{
	signal: "metrics",
	count:  pmetric.Metrics.DataPointCount,
	encode: func(data pmetric.Metrics) ([]byte, error) {
		return pmetricotlp.NewExportRequestFromMetrics(data).MarshalProto()
	},
	decode: func(body []byte) (pmetric.Metrics, error) {
		request := pmetricotlp.NewExportRequest()
		err := request.UnmarshalProto(body)
		return request.Metrics(), err
	},
}

func createTraces(
	ctx context.Context, set processor.Settings, config component.Config, next consumer.Traces,
) (processor.Traces, error) {
	one, err := newRedaction(set, config, traces)
	if err != nil {
		return nil, err
	}
	return processorhelper.NewTraces(ctx, set, config, next, one.process, one.options()...)
}

func createLogs(
	ctx context.Context, set processor.Settings, config component.Config, next consumer.Logs,
) (processor.Logs, error) {
	one, err := newRedaction(set, config, logs)
	if err != nil {
		return nil, err
	}
	return processorhelper.NewLogs(ctx, set, config, next, one.process, one.options()...)
}

func createMetrics(
	ctx context.Context, set processor.Settings, config component.Config, next consumer.Metrics,
) (processor.Metrics, error) {
	one, err := newRedaction(set, config, metrics)
	if err != nil {
		return nil, err
	}
	return processorhelper.NewMetrics(ctx, set, config, next, one.process, one.options()...)
}
