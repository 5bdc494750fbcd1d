import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { embed, generateText, streamText } from "ai";

const sdk = new NodeSDK({ traceExporter: new OTLPTraceExporter() });
sdk.start();
const url = process.env.PROVIDER_URL;
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" });
const traced = { prompt: "SECRET", experimental_telemetry: { isEnabled: true } };
await generateText({ model: openai.chat("gpt-4o"), ...traced });
await generateText({ model: openai("gpt-4o"), ...traced });
const stream = streamText({ model: openai.chat("gpt-4o"), ...traced });
for await (const _ of stream.textStream);
await generateText({ model: anthropic("claude-sonnet-4-5-20250929"), ...traced });
await embed({ model: openai.embedding("text-embedding-3-small"), value: "SECRET", experimental_telemetry: { isEnabled: true } });
await sdk.shutdown();
