import asyncio
import sys

import litellm
from calls import QUESTION, URL

litellm.callbacks = [sys.argv[1]]
TO_OPENAI = {"api_base": URL + "/v1", "api_key": "sk-none"}


async def main():
    said = QUESTION["messages"]
    await litellm.acompletion(model="openai/gpt-4o", messages=said, **TO_OPENAI)
    await litellm.aresponses(model="openai/gpt-4o", input="SECRET", **TO_OPENAI)
    await litellm.aembedding(model="openai/text-embedding-3-small", input="SECRET", **TO_OPENAI)
    await litellm.anthropic.messages.acreate(
        model="anthropic/claude-sonnet-4-5-20250929",
        max_tokens=100,
        messages=said,
        api_base=URL,
        api_key="sk-none",
    )
    await asyncio.sleep(7)  # LiteLLM reports behind the call, every 5 s


asyncio.run(main())
