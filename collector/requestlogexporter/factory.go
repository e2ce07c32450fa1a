// Package requestlogexporter is the exporter `request_log`: OTLP over HTTP to an otel-telemetry gateway, which writes a
// row for each request. It is the Collector's own exporter otlp_http with the settings that suit a gateway, and its key.
package requestlogexporter

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
)

const (
	keyHeader  = "X-Api-Key"
	queueItems = 100_000
)

var (
	componentType = component.MustNewType("request_log")
	otlp          = otlphttpexporter.NewFactory()
)

// Config is that of otlp_http, and the gateway's key.
type Config struct {
	otlphttpexporter.Config `mapstructure:",squash"`
	// APIKey that the gateway asks for, with the role `ingest`.
	APIKey configopaque.String `mapstructure:"api_key"`
}

// Validate refuses settings that contradict each other.
func (c *Config) Validate() error {
	if _, named := c.ClientConfig.Headers.Get(keyHeader); named && c.APIKey != "" {
		return errors.New("api_key: the headers have an x-api-key, too; leave one of them out")
	}
	return c.Config.Validate()
}

// NewFactory makes the exporter for traces, logs and metrics.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(
		componentType,
		func() component.Config { return defaultConfig() },
		exporter.WithTraces(createTraces, component.StabilityLevelBeta),
		exporter.WithLogs(createLogs, component.StabilityLevelBeta),
		exporter.WithMetrics(createMetrics, component.StabilityLevelBeta),
	)
}

func defaultConfig() *Config {
	config := &Config{Config: *otlp.CreateDefaultConfig().(*otlphttpexporter.Config)}
	config.ClientConfig.Endpoint = "http://127.0.0.1:4318"
	config.ClientConfig.Compression = configcompression.Type("none") // on the same machine packing only costs time
	config.RetryConfig.MaxElapsedTime = 0                            // the gateway refuses nothing that it will take later
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.Sizer = exporterhelper.RequestSizerTypeItems
	queue.QueueSize = queueItems
	queue.BlockOnOverflow = true // the sender waits; nothing is dropped
	config.QueueConfig = configoptional.Some(queue)
	return config
}

// delegate returns what the exporter beneath is made of. Its name is one that no otlp_http of a user has: a queue on disk
// goes by it.
func delegate(set exporter.Settings, given component.Config) (exporter.Settings, *otlphttpexporter.Config) {
	config := given.(*Config)
	under := config.Config
	if config.APIKey != "" {
		headers := under.ClientConfig.Headers
		under.ClientConfig.Headers = append(headers[:len(headers):len(headers)],
			configopaque.Pair{Name: keyHeader, Value: config.APIKey})
	}
	name := componentType.String()
	if set.ID.Name() != "" {
		name += "_" + set.ID.Name()
	}
	set.ID = component.NewIDWithName(otlp.Type(), name)
	return set, &under
}

func createTraces(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Traces, error) {
	set, under := delegate(set, config)
	return otlp.CreateTraces(ctx, set, under)
}

func createLogs(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Logs, error) {
	set, under := delegate(set, config)
	return otlp.CreateLogs(ctx, set, under)
}

func createMetrics(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Metrics, error) {
	set, under := delegate(set, config)
	return otlp.CreateMetrics(ctx, set, under)
}
