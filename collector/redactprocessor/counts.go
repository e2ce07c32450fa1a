package redactprocessor

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counts is what the processor measures of itself, beside what the Collector measures of every processor.
type counts struct {
	signal   attribute.KeyValue
	items    metric.Int64Counter
	duration metric.Float64Histogram
}

func newCounts(set component.TelemetrySettings, signal string) (*counts, error) {
	meter := set.MeterProvider.Meter(scopeName)
	items, err := meter.Int64Counter("otelcol_processor_otel_telemetry_items",
		metric.WithDescription("Spans, log records and data points, by signal and outcome: redacted, dropped (could not "+
			"be redacted), refused (for good) and retry (the sender was told to send them again)."),
		metric.WithUnit("{item}"))
	duration, wrong := meter.Float64Histogram("otelcol_processor_otel_telemetry_duration",
		metric.WithDescription("Time that the redaction of a batch took, with all tries, by signal and outcome."),
		metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	return &counts{attribute.String("signal", signal), items, duration}, errors.Join(err, wrong)
}

func (c *counts) batch(ctx context.Context, sent, dropped int, took time.Duration, err error) {
	outcome := "redacted"
	switch {
	case isPermanent(err):
		outcome = "refused"
	case err != nil:
		outcome = "retry"
	}
	c.items.Add(ctx, int64(sent-dropped), c.with(outcome))
	c.duration.Record(ctx, took.Seconds(), c.with(outcome))
	if dropped > 0 {
		c.items.Add(ctx, int64(dropped), c.with("dropped"))
	}
}

func (c *counts) with(outcome string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(c.signal, attribute.String("outcome", outcome)))
}
