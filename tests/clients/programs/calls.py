"""The calls that every Python client makes: nine of OpenAI's and Anthropic's interfaces."""

import os

URL = os.environ["PROVIDER_URL"]
QUESTION = {"model": "gpt-4o", "messages": [{"role": "user", "content": "SECRET"}]}


def use_openai(openai):
    client = openai.OpenAI(api_key="sk-none", base_url=URL + "/v1", max_retries=0)
    client.chat.completions.create(**QUESTION)
    for _ in client.chat.completions.create(
        **QUESTION, stream=True, stream_options={"include_usage": True}
    ):
        pass
    client.responses.create(model="gpt-4o", input="SECRET")
    for _ in client.responses.create(model="gpt-4o", input="SECRET", stream=True):
        pass
    client.embeddings.create(model="text-embedding-3-small", input="SECRET")


def use_anthropic(anthropic):
    client = anthropic.Anthropic(api_key="sk-none", base_url=URL, max_retries=0)
    said = [{"role": "user", "content": "SECRET"}]
    question = {"model": "claude-sonnet-4-5-20250929", "max_tokens": 100, "messages": said}
    client.messages.create(**question)
    with client.messages.stream(**question) as stream:
        for _ in stream:
            pass
