// An app in Node.js: one trace with a link to another, two log records, three metrics; personal data in all of them.
//
// Usage: node sender.js SCENARIO.json (see scenario.py). Prints the ids of its spans as JSON. Speaks OTLP/HTTP,
// JSON, or OTLP/gRPC where OTEL_EXPORTER_OTLP_PROTOCOL is grpc.
import { readFileSync } from 'node:fs';
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';

const protocol = process.env.OTEL_EXPORTER_OTLP_PROTOCOL === 'grpc' ? 'grpc' : 'http';
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${protocol}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${protocol}`);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${protocol}`);

function requestAttributes(p) {
  return {
    'request_log.route': 'direct',
    'request_log.stage_ms.final': 12,
    'client.address': p.ipv4,
    'url.query': `card=${p.card}&q=tent`,
    'url.full': `https://shop:${p.secret}@payments.example.net/charge`,
    'http.request.header.authorization': [`Bearer ${p.jwt}`],
    'enduser.id': p.user,
    'session.id': p.session,
    'order.lines': ['1 tent', `ship to ${p.email}`],
    'order.paid': true,
    'order.total': 249.5,
    [`seen by ${p.email}`]: true,
  };
}

function modelAttributes(p) {
  const content = `My number is ${p.phone}, my SSN ${p.ssn}.`;
  return {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'gpt-4o-mini',
    'gen_ai.response.model': 'gpt-4o-mini-2024-07-18',
    'gen_ai.usage.input_tokens': 120,
    'gen_ai.usage.output_tokens': 30,
    'gen_ai.input.messages': JSON.stringify([{ role: 'user', parts: [{ type: 'text', content }] }]),
  };
}

function sendSpans(tracer, p) {
  const earlier = tracer.startSpan('import orders', {}, ROOT_CONTEXT);
  earlier.end();
  const sameBuyer = { context: earlier.spanContext(), attributes: { reason: `same buyer ${p.email}`, order: 1 } };
  const request = tracer.startSpan(
    `POST /chat for ${p.email}`,
    { kind: SpanKind.SERVER, links: [sameBuyer], attributes: requestAttributes(p) },
    ROOT_CONTEXT,
  );
  const inRequest = trace.setSpan(ROOT_CONTEXT, request);
  request.addEvent(`mail sent to ${p.email}`, { account: p.iban, amount: 12.5 });
  const call = tracer.startSpan(
    'chat gpt-4o-mini', { kind: SpanKind.CLIENT, attributes: modelAttributes(p) }, inRequest);
  call.end();
  const charge = tracer.startSpan('charge', {}, inRequest);
  const payment = tracer.startSpan('POST payments', { kind: SpanKind.CLIENT }, trace.setSpan(inRequest, charge));
  payment.recordException(new Error(`card ${p.card} of ${p.email} was declined`));
  payment.setStatus({ code: SpanStatusCode.ERROR, message: `declined: ${p.card}, key ${p.openai_key}` });
  payment.end();
  charge.end();
  request.end();
  const ids = { trace: request.spanContext().traceId, earlier_trace: earlier.spanContext().traceId };
  for (const [name, span] of Object.entries({ earlier, request, call, charge, payment })) {
    ids[name] = span.spanContext().spanId;
  }
  return { inRequest, ids };
}

function sendLogs(inRequest, logger, p) {
  const lines = [{ item: 'tent' }, { token: p.github_token, note: `deploy with ${p.aws_key}` }];
  for (const [severityNumber, body] of [
    [SeverityNumber.INFO, `paid with ${p.card}, call ${p.phone}`],
    [SeverityNumber.ERROR, { order: { mail: p.email, lines } }],
  ]) {
    logger.emit({
      severityNumber,
      severityText: SeverityNumber[severityNumber],
      body,
      eventName: `order of ${p.email}`,
      attributes: { customer: p.email, peer: p.ipv6, 'shop.step': 'pay' },
      context: inRequest,
    });
  }
}

function sendMetrics(meter, p) {
  const orders = meter.createCounter('shop.orders', { unit: '{order}', description: 'Orders' });
  orders.add(3, { payment: 'card', buyer: p.email });
  orders.add(4, { payment: 'cash' });
  const latency = meter.createHistogram('shop.latency', { unit: 's', description: 'Time to pay' });
  for (const seconds of [0.2, 0.4, 3.0]) {
    latency.record(seconds, { peer: p.ipv4 });
  }
  meter.createGauge('shop.temperature', { unit: 'Cel', description: 'In the shop' }).record(21.5, { place: 'till' });
}

const { service, planted } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const resource = resourceFromAttributes({
  'service.name': service,
  'deployment.environment.name': 'e2e',
  owner: `on call: ${planted.email}`,
});
const tracers = new BasicTracerProvider({
  resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
const loggers = new LoggerProvider({
  resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })] });
const meters = new MeterProvider({
  resource, readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter() })] });
const { inRequest, ids } = sendSpans(tracers.getTracer('shop', '1.2.3'), planted);
sendLogs(inRequest, loggers.getLogger('shop', '1.2.3'), planted);
sendMetrics(meters.getMeter('shop', '1.2.3'), planted);
for (const provider of [tracers, loggers, meters]) {
  await provider.shutdown();
}
console.log(JSON.stringify(ids));
