// Package redactprocessor is the processor `otel_telemetry` of the OpenTelemetry Collector: it has each batch redacted
// by `otel-telemetry redactor` on the same machine, and passes on nothing but what came back clean.
package redactprocessor

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"
)

const longestSocket = 103 // of sun_path on every system

// Config says where the redactor is, and how long a batch may wait for it.
type Config struct {
	// Endpoint of the redactor: unix:///path/to/socket, or http://127.0.0.1:port.
	Endpoint string `mapstructure:"endpoint"`
	// APIKey that the redactor asks for on a port, with the role `ingest`.
	APIKey configopaque.String `mapstructure:"api_key"`
	// Timeout of one batch, with all tries. A shorter deadline of the caller goes before it.
	Timeout time.Duration `mapstructure:"timeout"`
	// RetryInterval before the second try; it doubles, up to a second.
	RetryInterval time.Duration `mapstructure:"retry_interval"`
	// MaxConnections to the redactor, which is how many batches are redacted at once.
	MaxConnections int `mapstructure:"max_connections"`
	// MaxAnswerBytes is the largest answer that is read.
	MaxAnswerBytes int64 `mapstructure:"max_answer_bytes"`
	// UnredactedPipelines share a receiver with a redacted one and may pass on what is not redacted (pipelinecheck).
	UnredactedPipelines []string `mapstructure:"unredacted_pipelines"`

	_ struct{}
}

func defaultConfig() *Config {
	return &Config{
		Endpoint:       "unix:///run/otel-telemetry/redactor.sock",
		Timeout:        8 * time.Second, // SDKs give up after ten
		RetryInterval:  50 * time.Millisecond,
		MaxConnections: 16,
		MaxAnswerBytes: 128 << 20,
	}
}

// Validate refuses what cannot work, and a redactor that could only be reached by sending personal data over a network.
func (c *Config) Validate() error {
	_, err := targetOf(c.Endpoint)
	return errors.Join(
		err,
		positive("timeout", int64(c.Timeout)),
		positive("retry_interval", int64(c.RetryInterval)),
		positive("max_connections", int64(c.MaxConnections)),
		positive("max_answer_bytes", c.MaxAnswerBytes),
	)
}

func positive(name string, value int64) error {
	if value > 0 {
		return nil
	}
	return fmt.Errorf("%s: must be more than 0", name)
}

// target is where the redactor is: what is dialled, and the base of its addresses.
type target struct {
	network, address, base string
}

func targetOf(endpoint string) (target, error) {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return target{}, errors.New("endpoint: is no address; write unix:///path/to/socket or http://127.0.0.1:port")
	}
	switch parsed.Scheme {
	case "unix":
		return socketOf(strings.TrimPrefix(endpoint, "unix://"))
	case "http":
		return portOf(parsed)
	default:
		return target{}, fmt.Errorf("endpoint: %q is neither unix:///path/to/socket nor http://127.0.0.1:port", endpoint)
	}
}

func socketOf(path string) (target, error) {
	if !filepath.IsAbs(path) {
		return target{}, fmt.Errorf("endpoint: %q is no absolute path; write three slashes: unix:///path", path)
	}
	if len(path) > longestSocket {
		return target{}, fmt.Errorf("endpoint: the path of a socket has at most %d bytes", longestSocket)
	}
	return target{"unix", path, "http://localhost"}, nil
}

func portOf(parsed *url.URL) (target, error) {
	host := parsed.Hostname()
	address := net.ParseIP(host)
	if host != "localhost" && (address == nil || !address.IsLoopback()) {
		return target{}, fmt.Errorf("endpoint: %q is not on this machine, and what goes there is not redacted yet; "+
			"run a redactor beside the Collector, or export to a gateway over TLS", host)
	}
	if parsed.Port() == "" || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.User != nil {
		return target{}, fmt.Errorf("endpoint: write http://%s:port and no more", host)
	}
	return target{"tcp", parsed.Host, "http://" + parsed.Host}, nil
}
