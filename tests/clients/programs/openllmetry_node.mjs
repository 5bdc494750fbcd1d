import * as traceloop from "@traceloop/node-server-sdk";
import OpenAI from "openai";

traceloop.initialize({ appName: "shop", baseUrl: process.env.EXPORTER_URL, disableBatch: true, instrumentModules: { openAI: OpenAI }, silenceInitializationMessage: true });
const client = new OpenAI({ baseURL: `${process.env.PROVIDER_URL}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "SECRET" }];
await client.chat.completions.create({ model: "gpt-4o", messages });
const stream = await client.chat.completions.create({ model: "gpt-4o", messages, stream: true, stream_options: { include_usage: true } });
for await (const _ of stream);
await traceloop.forceFlush();
