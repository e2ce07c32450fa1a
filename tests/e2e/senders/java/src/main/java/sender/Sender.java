package sender;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.File;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * An app in Java: one trace with a link to another, two log records, three metrics; personal data in all of them.
 *
 * <p>Usage: Sender SCENARIO.json (see scenario.py). Prints the ids of its spans as JSON. Speaks OTLP/HTTP, protobuf,
 * or OTLP/gRPC where OTEL_EXPORTER_OTLP_PROTOCOL is grpc.
 */
public final class Sender {
  private static final ObjectMapper JSON = new ObjectMapper();

  private Sender() {}

  record Scenario(String service, Map<String, String> planted) {}

  private static Attributes requestAttributes(Map<String, String> p) {
    return Attributes.builder()
        .put("request_log.route", "direct")
        .put("request_log.stage_ms.final", 12)
        .put("client.address", p.get("ipv4"))
        .put("url.query", "card=" + p.get("card") + "&q=tent")
        .put("url.full", "https://shop:" + p.get("secret") + "@payments.example.net/charge")
        .put(AttributeKey.stringArrayKey("http.request.header.authorization"), List.of("Bearer " + p.get("jwt")))
        .put("enduser.id", p.get("user"))
        .put("session.id", p.get("session"))
        .put(AttributeKey.stringArrayKey("order.lines"), List.of("1 tent", "ship to " + p.get("email")))
        .put("order.paid", true)
        .put("order.total", 249.5)
        .put("seen by " + p.get("email"), true)
        .build();
  }

  private static Attributes modelAttributes(Map<String, String> p) throws IOException {
    String text = "My number is " + p.get("phone") + ", my SSN " + p.get("ssn") + ".";
    Object messages =
        List.of(Map.of("role", "user", "parts", List.of(Map.of("type", "text", "content", text))));
    return Attributes.builder()
        .put("gen_ai.operation.name", "chat")
        .put("gen_ai.provider.name", "openai")
        .put("gen_ai.request.model", "gpt-4o-mini")
        .put("gen_ai.response.model", "gpt-4o-mini-2024-07-18")
        .put("gen_ai.usage.input_tokens", 120)
        .put("gen_ai.usage.output_tokens", 30)
        .put("gen_ai.input.messages", JSON.writeValueAsString(messages))
        .build();
  }

  private static Context sendSpans(Tracer tracer, Map<String, String> p, Map<String, String> ids) throws IOException {
    Span earlier = tracer.spanBuilder("import orders").setNoParent().startSpan();
    earlier.end();
    Attributes sameBuyer = Attributes.builder().put("reason", "same buyer " + p.get("email")).put("order", 1).build();
    Span request =
        tracer
            .spanBuilder("POST /chat for " + p.get("email"))
            .setNoParent()
            .setSpanKind(SpanKind.SERVER)
            .addLink(earlier.getSpanContext(), sameBuyer)
            .setAllAttributes(requestAttributes(p))
            .startSpan();
    Context inRequest = Context.root().with(request);
    request.addEvent(
        "mail sent to " + p.get("email"),
        Attributes.builder().put("account", p.get("iban")).put("amount", 12.5).build());
    Span call =
        tracer
            .spanBuilder("chat gpt-4o-mini")
            .setParent(inRequest)
            .setSpanKind(SpanKind.CLIENT)
            .setAllAttributes(modelAttributes(p))
            .startSpan();
    call.end();
    Span charge = tracer.spanBuilder("charge").setParent(inRequest).startSpan();
    Span payment =
        tracer.spanBuilder("POST payments").setParent(inRequest.with(charge)).setSpanKind(SpanKind.CLIENT).startSpan();
    payment.recordException(
        new IllegalStateException("card " + p.get("card") + " of " + p.get("email") + " was declined"));
    payment.setStatus(StatusCode.ERROR, "declined: " + p.get("card") + ", key " + p.get("openai_key"));
    payment.end();
    charge.end();
    request.end();
    ids.put("trace", request.getSpanContext().getTraceId());
    ids.put("earlier_trace", earlier.getSpanContext().getTraceId());
    Map.of("earlier", earlier, "request", request, "call", call, "charge", charge, "payment", payment)
        .forEach((name, span) -> ids.put(name, span.getSpanContext().getSpanId()));
    return inRequest;
  }

  private static void sendLogs(Context inRequest, Logger logger, Map<String, String> p) {
    Value<?> lines =
        Value.of(
            Value.of(KeyValue.of("item", Value.of("tent"))),
            Value.of(
                KeyValue.of("token", Value.of(p.get("github_token"))),
                KeyValue.of("note", Value.of("deploy with " + p.get("aws_key")))));
    Value<?> order =
        Value.of(
            KeyValue.of(
                "order",
                Value.of(KeyValue.of("mail", Value.of(p.get("email"))), KeyValue.of("lines", lines))));
    emit(inRequest, logger, p, Severity.INFO, Value.of("paid with " + p.get("card") + ", call " + p.get("phone")));
    emit(inRequest, logger, p, Severity.ERROR, order);
  }

  private static void emit(
      Context inRequest, Logger logger, Map<String, String> p, Severity severity, Value<?> body) {
    logger
        .logRecordBuilder()
        .setContext(inRequest)
        .setSeverity(severity)
        .setSeverityText(severity.name())
        .setEventName("order of " + p.get("email"))
        .setBody(body)
        .setAttribute(AttributeKey.stringKey("customer"), p.get("email"))
        .setAttribute(AttributeKey.stringKey("peer"), p.get("ipv6"))
        .setAttribute(AttributeKey.stringKey("shop.step"), "pay")
        .emit();
  }

  /** `payer` is left to the exemplars, whose trace is the request's. */
  private static void sendMetrics(Context inRequest, Meter meter, Map<String, String> p) {
    var orders = meter.counterBuilder("shop.orders").setUnit("{order}").setDescription("Orders").build();
    orders.add(3, Attributes.builder().put("payment", "card").put("buyer", p.get("email")).build());
    orders.add(4, Attributes.builder().put("payment", "cash").build());
    var latency = meter.histogramBuilder("shop.latency").setUnit("s").setDescription("Time to pay").build();
    for (double seconds : new double[] {0.2, 0.4, 3.0}) {
      latency.record(
          seconds,
          Attributes.builder().put("peer", p.get("ipv4")).put("payer", p.get("email")).build(),
          inRequest);
    }
    var temperature = meter.gaugeBuilder("shop.temperature").setUnit("Cel").setDescription("In the shop").build();
    temperature.set(21.5, Attributes.builder().put("place", "till").build());
  }

  record Exporters(SpanExporter spans, LogRecordExporter logs, MetricExporter points) {}

  private static Exporters exporters() {
    String endpoint = System.getenv("OTEL_EXPORTER_OTLP_ENDPOINT");
    String header = System.getenv("OTEL_EXPORTER_OTLP_HEADERS");
    String[] parts = header != null && header.contains("=") ? header.split("=", 2) : new String[] {"x-none", ""};
    if ("grpc".equals(System.getenv("OTEL_EXPORTER_OTLP_PROTOCOL"))) {
      return new Exporters(
          OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).addHeader(parts[0], parts[1]).build(),
          OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).addHeader(parts[0], parts[1]).build(),
          OtlpGrpcMetricExporter.builder().setEndpoint(endpoint).addHeader(parts[0], parts[1]).build());
    }
    var spans = OtlpHttpSpanExporter.builder().setEndpoint(endpoint + "/v1/traces");
    var logs = OtlpHttpLogRecordExporter.builder().setEndpoint(endpoint + "/v1/logs");
    var points = OtlpHttpMetricExporter.builder().setEndpoint(endpoint + "/v1/metrics");
    return new Exporters(
        spans.addHeader(parts[0], parts[1]).build(),
        logs.addHeader(parts[0], parts[1]).build(),
        points.addHeader(parts[0], parts[1]).build());
  }

  /** Sends everything once. The endpoint and headers come from the variables that all SDKs read. */
  public static void main(String[] arguments) throws Exception {
    Scenario scenario = JSON.readValue(new File(arguments[0]), Scenario.class);
    Map<String, String> p = scenario.planted();
    Resource resource =
        Resource.create(
            Attributes.builder()
                .put("service.name", scenario.service())
                .put("deployment.environment.name", "e2e")
                .put("owner", "on call: " + p.get("email"))
                .build());
    Exporters exporters = exporters();
    var tracers =
        SdkTracerProvider.builder()
            .setResource(resource)
            .addSpanProcessor(BatchSpanProcessor.builder(exporters.spans()).build())
            .build();
    var loggers =
        SdkLoggerProvider.builder()
            .setResource(resource)
            .addLogRecordProcessor(BatchLogRecordProcessor.builder(exporters.logs()).build())
            .build();
    var meters =
        SdkMeterProvider.builder()
            .setResource(resource)
            .registerView(
                InstrumentSelector.builder().setName("shop.latency").build(),
                View.builder().setAttributeFilter(Set.of("peer")).build())
            .registerMetricReader(PeriodicMetricReader.builder(exporters.points()).build())
            .build();
    Map<String, String> ids = new LinkedHashMap<>();
    Context inRequest =
        sendSpans(tracers.tracerBuilder("shop").setInstrumentationVersion("1.2.3").build(), p, ids);
    sendLogs(inRequest, loggers.loggerBuilder("shop").setInstrumentationVersion("1.2.3").build(), p);
    sendMetrics(inRequest, meters.meterBuilder("shop").setInstrumentationVersion("1.2.3").build(), p);
    tracers.shutdown().join(20, TimeUnit.SECONDS);
    loggers.shutdown().join(20, TimeUnit.SECONDS);
    meters.shutdown().join(20, TimeUnit.SECONDS);
    System.out.println(JSON.writeValueAsString(ids));
  }
}
