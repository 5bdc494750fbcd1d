import asyncio

import calls
import otel
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

OpenAIAgentsInstrumentor().instrument(tracer_provider=otel.tracers)
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI

client = AsyncOpenAI(api_key="sk-none", base_url=calls.URL + "/v1", max_retries=0)


async def main():
    for model in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        agent = Agent(name="a", model=model("gpt-4o", client))
        await Runner.run(agent, "SECRET")


asyncio.run(main())
otel.done()
