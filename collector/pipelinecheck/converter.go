// Package pipelinecheck refuses a configuration in which personal data goes around the processor `otel_telemetry`.
//
// Pipelines that share a receiver are each given what it receives. Where one of them redacts and another one does not,
// the other one exports raw data; the same holds where connectors stand between. The check is a converter, so it runs
// when the Collector starts, when it reloads, and in `validate`.
package pipelinecheck

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/zap"
)

const (
	processorType = "otel_telemetry"
	exemptionName = "unredacted_pipelines"
)

// NewFactory makes the check, for `converters` of a builder's manifest.
func NewFactory() confmap.ConverterFactory {
	return confmap.NewConverterFactory(func(set confmap.ConverterSettings) confmap.Converter {
		return &converter{log: set.Logger}
	})
}

type converter struct{ log *zap.Logger }

// Convert changes nothing. It returns an error for a configuration that lets data past the processor.
func (c *converter) Convert(_ context.Context, conf *confmap.Conf) error {
	config := conf.ToStringMap()
	found := graphOf(config)
	for _, name := range slices.Sorted(maps.Keys(found.pipelines)) {
		if batch := found.pipelines[name].batchBefore(); batch != "" && c.log != nil {
			c.log.Warn("What the redactor refuses for now is lost behind a batch processor; batch in the exporter's queue instead",
				zap.String("pipeline", name), zap.String("processor", batch))
		}
	}
	return found.check()
}

type pipeline struct {
	receivers, processors, exporters []string
}

func (p pipeline) redacts() bool {
	return slices.ContainsFunc(p.processors, func(id string) bool { return typeOf(id) == processorType })
}

func (p pipeline) batchBefore() string {
	if !p.redacts() {
		return ""
	}
	for _, id := range p.processors {
		switch typeOf(id) {
		case "batch":
			return id
		case processorType:
			return ""
		}
	}
	return ""
}

type graph struct {
	pipelines  map[string]pipeline
	connectors map[string]bool
	exempt     map[string]bool
}

func graphOf(config map[string]any) *graph {
	found := &graph{map[string]pipeline{}, map[string]bool{}, map[string]bool{}}
	for id := range table(config["connectors"]) {
		found.connectors[id] = true
	}
	for id, given := range table(config["processors"]) {
		if typeOf(id) == processorType {
			for _, name := range texts(table(given)[exemptionName]) {
				found.exempt[name] = true
			}
		}
	}
	for name, given := range table(table(config["service"])["pipelines"]) {
		parts := table(given)
		found.pipelines[name] = pipeline{texts(parts["receivers"]), texts(parts["processors"]), texts(parts["exporters"])}
	}
	return found
}

// check follows what each receiver receives until it is redacted or exported.
func (g *graph) check() error {
	for _, receiver := range g.receivers() {
		redacted, raw := g.follow(receiver, map[string]bool{})
		if len(redacted) == 0 || len(raw) == 0 {
			continue
		}
		slices.Sort(redacted)
		slices.Sort(raw)
		return fmt.Errorf("service::pipelines::%s: exports what receiver %q receives without the processor %s, "+
			"which pipeline %s has for the same receiver; add the processor there, give that pipeline a receiver of its own, "+
			"or name it in processors::%s::%s", raw[0], receiver, processorType, redacted[0], processorType, exemptionName)
	}
	return nil
}

// receivers are those through which data comes in: connectors hand on what is inside already.
func (g *graph) receivers() []string {
	found := map[string]bool{}
	for _, one := range g.pipelines {
		for _, id := range one.receivers {
			if !g.connectors[id] {
				found[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// follow returns the pipelines that redact what comes from there, and those that export it as it is.
func (g *graph) follow(from string, seen map[string]bool) (redacted, raw []string) {
	for name, one := range g.pipelines {
		if seen[name] || !slices.Contains(one.receivers, from) {
			continue
		}
		seen[name] = true
		if one.redacts() {
			redacted = append(redacted, name)
			continue
		}
		exports := false
		for _, id := range one.exporters {
			if !g.connectors[id] {
				exports = true
				continue
			}
			below, around := g.follow(id, seen)
			redacted, raw = append(redacted, below...), append(raw, around...)
		}
		if exports && !g.exempt[name] {
			raw = append(raw, name)
		}
	}
	return redacted, raw
}

func typeOf(id string) string {
	name, _, _ := strings.Cut(id, "/")
	return strings.TrimSpace(name)
}

func table(given any) map[string]any {
	found, _ := given.(map[string]any)
	return found
}

func texts(given any) []string {
	var found []string
	list, _ := given.([]any)
	for _, one := range list {
		if text, ok := one.(string); ok {
			found = append(found, text)
		}
	}
	return found
}
