// An app in Go: one trace with a link to another, two log records, three metrics; personal data in all of them.
//
// Usage: sender SCENARIO.json (see scenario.py). Prints the ids of its spans as JSON. Speaks OTLP/gRPC.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type planted map[string]string

type scenario struct {
	Service string  `json:"service"`
	Planted planted `json:"planted"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func sendSpans(ctx context.Context, tracer trace.Tracer, p planted) (context.Context, map[string]string) {
	_, earlier := tracer.Start(ctx, "import orders")
	earlier.End()
	sameBuyer := trace.Link{SpanContext: earlier.SpanContext(), Attributes: []attribute.KeyValue{
		attribute.String("reason", "same buyer "+p["email"]), attribute.Int("order", 1)}}
	inRequest, request := tracer.Start(ctx, "POST /chat for "+p["email"], trace.WithSpanKind(trace.SpanKindServer),
		trace.WithLinks(sameBuyer), trace.WithAttributes(requestAttributes(p)...))
	request.AddEvent("mail sent to "+p["email"], trace.WithAttributes(
		attribute.String("account", p["iban"]), attribute.Float64("amount", 12.5)))
	_, call := tracer.Start(inRequest, "chat gpt-4o-mini", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(modelAttributes(p)...))
	call.End()
	inCharge, charge := tracer.Start(inRequest, "charge")
	_, payment := tracer.Start(inCharge, "POST payments", trace.WithSpanKind(trace.SpanKindClient))
	payment.RecordError(errors.New("card "+p["card"]+" of "+p["email"]+" was declined"), trace.WithStackTrace(true))
	payment.SetStatus(codes.Error, "declined: "+p["card"]+", key "+p["openai_key"])
	payment.End()
	charge.End()
	request.End()
	ids := map[string]string{
		"trace": request.SpanContext().TraceID().String(), "earlier_trace": earlier.SpanContext().TraceID().String()}
	for name, span := range map[string]trace.Span{
		"earlier": earlier, "request": request, "call": call, "charge": charge, "payment": payment} {
		ids[name] = span.SpanContext().SpanID().String()
	}
	return inRequest, ids
}

func requestAttributes(p planted) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("request_log.route", "direct"),
		attribute.Int("request_log.stage_ms.final", 12),
		attribute.String("client.address", p["ipv4"]),
		attribute.String("url.query", "card="+p["card"]+"&q=tent"),
		attribute.String("url.full", "https://shop:"+p["secret"]+"@payments.example.net/charge"),
		attribute.StringSlice("http.request.header.authorization", []string{"Bearer " + p["jwt"]}),
		attribute.String("enduser.id", p["user"]),
		attribute.String("session.id", p["session"]),
		attribute.StringSlice("order.lines", []string{"1 tent", "ship to " + p["email"]}),
		attribute.Bool("order.paid", true),
		attribute.Float64("order.total", 249.5),
		attribute.Bool("seen by "+p["email"], true),
	}
}

func modelAttributes(p planted) []attribute.KeyValue {
	text := "My number is " + p["phone"] + ", my SSN " + p["ssn"] + "."
	messages, err := json.Marshal([]any{map[string]any{
		"role": "user", "parts": []any{map[string]string{"type": "text", "content": text}}}})
	check(err)
	return []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", "chat"),
		attribute.String("gen_ai.provider.name", "openai"),
		attribute.String("gen_ai.request.model", "gpt-4o-mini"),
		attribute.String("gen_ai.response.model", "gpt-4o-mini-2024-07-18"),
		attribute.Int("gen_ai.usage.input_tokens", 120),
		attribute.Int("gen_ai.usage.output_tokens", 30),
		attribute.String("gen_ai.input.messages", string(messages)),
	}
}

func sendLogs(ctx context.Context, logger log.Logger, p planted) {
	lines := attribute.Slice("lines",
		attribute.MapValue(attribute.String("item", "tent")),
		attribute.MapValue(attribute.String("token", p["github_token"]),
			attribute.String("note", "deploy with "+p["aws_key"])))
	order := attribute.MapValue(attribute.Map("order", attribute.String("mail", p["email"]), lines))
	emit := func(severity log.Severity, body attribute.Value) {
		var record log.Record
		record.SetTimestamp(time.Now())
		record.SetSeverity(severity)
		record.SetSeverityText(severity.String())
		record.SetEventName("order of " + p["email"])
		record.SetBody(body)
		record.AddAttributes(attribute.String("customer", p["email"]), attribute.String("peer", p["ipv6"]),
			attribute.String("shop.step", "pay"))
		logger.Emit(ctx, record)
	}
	emit(log.SeverityInfo, attribute.StringValue("paid with "+p["card"]+", call "+p["phone"]))
	emit(log.SeverityError, order)
}

// sendMetrics leaves `payer` to the exemplars, whose trace is the request's.
func sendMetrics(ctx context.Context, meter metric.Meter, p planted) {
	orders, err := meter.Int64Counter("shop.orders", metric.WithUnit("{order}"), metric.WithDescription("Orders"))
	check(err)
	orders.Add(ctx, 3, metric.WithAttributes(attribute.String("payment", "card"), attribute.String("buyer", p["email"])))
	orders.Add(ctx, 4, metric.WithAttributes(attribute.String("payment", "cash")))
	latency, err := meter.Float64Histogram("shop.latency", metric.WithUnit("s"), metric.WithDescription("Time to pay"))
	check(err)
	for _, seconds := range []float64{0.2, 0.4, 3.0} {
		latency.Record(ctx, seconds, metric.WithAttributes(
			attribute.String("peer", p["ipv4"]), attribute.String("payer", p["email"])))
	}
	temperature, err := meter.Float64Gauge("shop.temperature",
		metric.WithUnit("Cel"), metric.WithDescription("In the shop"))
	check(err)
	temperature.Record(ctx, 21.5, metric.WithAttributes(attribute.String("place", "till")))
}

func main() {
	ctx := context.Background()
	raw, err := os.ReadFile(os.Args[1])
	check(err)
	var given scenario
	check(json.Unmarshal(raw, &given))
	res := resource.NewSchemaless(attribute.String("service.name", given.Service),
		attribute.String("deployment.environment.name", "e2e"),
		attribute.String("owner", "on call: "+given.Planted["email"]))

	spans, err := otlptracegrpc.New(ctx)
	check(err)
	logs, err := otlploggrpc.New(ctx)
	check(err)
	points, err := otlpmetricgrpc.New(ctx)
	check(err)
	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(res))
	loggers := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(logs)), sdklog.WithResource(res))
	withoutPayer := sdkmetric.NewView(sdkmetric.Instrument{Name: "shop.latency"},
		sdkmetric.Stream{AttributeFilter: attribute.NewAllowKeysFilter("peer")})
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithView(withoutPayer),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)), sdkmetric.WithResource(res))

	tracer := tracers.Tracer("shop", trace.WithInstrumentationVersion("1.2.3"),
		trace.WithInstrumentationAttributes(attribute.String("maintainer", given.Planted["email"])))
	inRequest, ids := sendSpans(ctx, tracer, given.Planted)
	sendLogs(inRequest, loggers.Logger("shop", log.WithInstrumentationVersion("1.2.3")), given.Planted)
	sendMetrics(inRequest, meters.Meter("shop", metric.WithInstrumentationVersion("1.2.3")), given.Planted)
	check(errors.Join(tracers.Shutdown(ctx), loggers.Shutdown(ctx), meters.Shutdown(ctx)))
	check(json.NewEncoder(os.Stdout).Encode(ids))
}
