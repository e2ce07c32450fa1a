// Vercel's AI SDK with its own telemetry.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import { SpanKind, trace } from '@opentelemetry/api'
import { embed, generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const url = process.env.OTEL_EXPORTER_OTLP_ENDPOINT + '/v1/traces'
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'app' }),
  spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter({ url }))],
})
provider.register()
const models = createOpenAICompatible({
  name: 'openai', baseURL: process.env.MODEL_SERVER + '/v1', apiKey: 'none', includeUsage: true,
})
const experimental_telemetry = { isEnabled: true, functionId: 'ask', metadata: { userId: 'user-1', sessionId: 'session-1' } }
const question = 'How would a careful engineer find out why a service that was fast last week is slow this week? '.repeat(3)
const fresh = 'What is the weather today in Lisbon?'
const tools = {
  web_search: tool({
    description: 'Look something up.',
    inputSchema: z.object({ query: z.string() }),
    execute: async () => 'Sunny, 21 degrees.',
  }),
}
const say = (prompt, model = 'gpt-4o-mini') =>
  ({ model: models(model), system: 'Answer briefly.', prompt, maxRetries: 0, experimental_telemetry })

const cases = {
  async chat() {
    for (const model of ['gpt-4o-mini', 'gpt-4o-mini', 'o4-mini']) await generateText(say(question, model))
  },
  async stream() {
    for await (const _ of streamText(say(question)).textStream);
  },
  async tools() {
    await generateText({ ...say(fresh), tools, stopWhen: stepCountIs(3) })
  },
  async error() {
    await generateText(say('[[fault:429]] Is anybody there?')).catch(() => {})
  },
  async embeddings() {
    await embed({ model: models.textEmbeddingModel('text-embedding-3-small'), value: fresh, experimental_telemetry })
  },
}
await trace.getTracer('app').startActiveSpan('POST /ask', { kind: SpanKind.SERVER }, async span => {
  await cases[process.argv[2]]()
  span.end()
})
await provider.forceFlush()
