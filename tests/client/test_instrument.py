"""Real SDKs against a local API that answers in the documented formats."""

import asyncio
import gzip
import json
import zlib

import pytest

from exporter.client import Reporter, instrument
from exporter.client.providers import provider_at, provider_behind
from tests import real
from tests.e2e.running import Exporter

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
    ],
    "usage": {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}
LIMITS = {"x_ratelimit_remaining_tokens": "149984", "x_ratelimit_reset_tokens": "6m0s"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 15},
}
ASKED = [{"role": "user", "content": "my prompt"}]


def data(document) -> str:
    return "data: " + json.dumps(document)


def typed(document) -> str:
    return f"event: {document['type']}\n{data(document)}"


def chunk(text="", usage=None) -> str:
    choices = [] if usage else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
    return data({**head, "choices": choices, "usage": usage})


CHAT_STREAM = [chunk("Hel"), chunk("lo"), chunk(usage=CHAT["usage"]), "data: [DONE]"]
MESSAGE_STREAM = [
    typed(part)
    for part in [
        {
            "type": "message_start",
            "message": {
                **MESSAGE,
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 25, "cache_read_input_tokens": 0, "output_tokens": 1},
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "ping"},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 15, "cache_read_input_tokens": 5},
        },
        {"type": "message_stop"},
    ]
]
RESPONSE_USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 48,
}
RESPONSE_STREAM = [
    typed(part)
    for part in [
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": {"id": "resp_1", "model": "gpt-x", "output": [], "usage": None},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "m",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hello",
            "logprobs": [],
        },
        {
            "type": "response.completed",
            "sequence_number": 2,
            "response": {
                "id": "resp_1",
                "model": "gpt-x",
                "output": [{"type": "message", "id": "m", "content": []}],
                "usage": RESPONSE_USAGE,
            },
        },
    ]
]


@pytest.fixture
def reporter(sink):
    with Reporter(sink.url, interval=0.01) as reporter:
        yield reporter


def the_event(sink, reporter):
    reporter.close()
    (event,) = sink.events
    assert event.pop("timestamp") > 0
    assert "my prompt" not in str(sink.requests)
    assert "Hello" not in str(sink.requests)
    return event


@pytest.fixture
def openai(api, reporter):
    sdk = real.module("openai")
    with sdk.OpenAI(api_key="sk-x", base_url=api.url, max_retries=0) as client:
        yield instrument(client, reporter, "openai")


@pytest.fixture
def anthropic(api, reporter):
    sdk = real.module("anthropic")
    with sdk.Anthropic(api_key="sk-x", base_url=api.url, max_retries=0) as client:
        yield instrument(client, reporter, "anthropic")


OPENAI_EVENT = {
    "provider": "openai",
    "model": "gpt-x",
    "id": "chatcmpl-1",
    "usage": CHAT["usage"],
}
ANTHROPIC_EVENT = {
    "provider": "anthropic",
    "model": "claude-x",
    "id": "msg_1",
    "usage": MESSAGE["usage"],
}
RESPONSES_EVENT = {
    "provider": "openai",
    "model": "gpt-x",
    "id": "resp_1",
    "usage": RESPONSE_USAGE,
}


def test_an_openai_chat_reports_usage_and_limits(openai, api, sink, reporter):
    api.answer_json(CHAT, **LIMITS, openai_organization="o", set_cookie="c")
    answer = openai.chat.completions.create(model="gpt-x", messages=ASKED)
    assert answer.choices[0].message.content == "Hello"
    assert the_event(sink, reporter) == OPENAI_EVENT
    (signal,) = sink.signals
    assert (signal["provider"], signal["status"]) == ("openai", 200)
    assert signal["headers"] == {
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }


def test_an_openai_chat_stream_reports_its_last_chunk(openai, api, sink, reporter):
    api.answer_events(*CHAT_STREAM, **LIMITS)
    stream = openai.chat.completions.create(
        model="gpt-x", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(c.choices[0].delta.content for c in stream if c.choices) == "Hello"
    assert the_event(sink, reporter) == OPENAI_EVENT
    assert len(sink.signals) == 1


def test_a_stream_without_usage_counts_as_a_request_and_is_warned_of(
    openai, api, sink, reporter, caplog
):
    api.answer_events(*CHAT_STREAM[:2], "data: [DONE]")
    for _ in range(2):
        list(openai.chat.completions.create(model="gpt-x", messages=ASKED, stream=True))
    assert json.loads(api.asked[0]).keys() == {"model", "messages", "stream"}
    event = the_event(sink, reporter)
    assert event == {"provider": "openai", "model": "gpt-x", "id": "chatcmpl-1", "tokens": 0}
    assert reporter.uncounted == 2
    assert caplog.text.count("include_usage") == 2  # both ways to mend it, told once
    assert [(s["status"], s["model"]) for s in sink.signals] == [(200, "gpt-x")]


def test_an_exporter_takes_such_a_request(openai, api, tmp_path):
    api.answer_events(*CHAT_STREAM[:2], "data: [DONE]")
    with Exporter(tmp_path) as exporter:
        with Reporter(exporter.url) as reporter:
            instrument(openai, reporter, "openai")
            list(openai.chat.completions.create(model="gpt-x", messages=ASKED, stream=True))
        assert (reporter.dropped, reporter.rejected, reporter.invalid) == (0, 0, 0)
        assert exporter.value("llm_quota_requests_total", provider="openai", model="gpt-x") == 1


class TestAskingForUsage:
    @pytest.mark.parametrize("options", [{}, {"stream_options": {"include_obfuscation": False}}])
    def test_a_stream_is_asked_for_its_usage(self, openai, api, sink, reporter, options):
        instrument(openai, reporter, "openai", include_usage=True)
        api.answer_events(*CHAT_STREAM)
        stream = openai.chat.completions.create(
            model="gpt-x", messages=ASKED, stream=True, **options
        )
        assert "".join(c.choices[0].delta.content for c in stream if c.choices) == "Hello"
        assert the_event(sink, reporter) == OPENAI_EVENT
        assert json.loads(api.asked[0]) == {
            "model": "gpt-x",
            "messages": ASKED,
            "stream": True,
            "stream_options": {**options.get("stream_options", {}), "include_usage": True},
        }

    def test_an_async_stream_is_asked_alike(self, api, sink, reporter):
        sdk = real.module("openai")

        async def program():
            client = sdk.AsyncOpenAI(api_key="k", base_url=api.url, max_retries=0)
            async with instrument(client, reporter, "openai", include_usage=True):
                api.answer_events(*CHAT_STREAM)
                stream = await client.chat.completions.create(
                    model="gpt-x", messages=ASKED, stream=True
                )
                return [chunk async for chunk in stream]

        assert len(asyncio.run(program())) == 3
        assert the_event(sink, reporter) == OPENAI_EVENT
        assert json.loads(api.asked[0])["stream_options"] == {"include_usage": True}

    def test_a_program_that_has_decided_is_not_overruled(self, openai, api, reporter):
        instrument(openai, reporter, "openai", include_usage=True)
        api.answer_events(*CHAT_STREAM[:2], "data: [DONE]")
        options = {"include_usage": False}
        list(
            openai.chat.completions.create(
                model="gpt-x", messages=ASKED, stream=True, stream_options=options
            )
        )
        assert json.loads(api.asked[0])["stream_options"] == options

    def test_other_requests_stay_as_they_are(self, openai, api, reporter):
        instrument(openai, reporter, "openai", include_usage=True)
        api.answer_json(CHAT)
        openai.chat.completions.create(model="gpt-x", messages=ASKED)
        api.answer_events(*RESPONSE_STREAM)
        list(openai.responses.create(model="gpt-x", input="my prompt", stream=True))
        assert ["stream_options" in json.loads(body) for body in api.asked] == [False, False]

    def test_a_second_call_takes_it_back(self, openai, api, reporter):
        instrument(openai, reporter, "openai", include_usage=True)
        instrument(openai, reporter, "openai")
        api.answer_events(*CHAT_STREAM[:2], "data: [DONE]")
        list(openai.chat.completions.create(model="gpt-x", messages=ASKED, stream=True))
        assert "stream_options" not in json.loads(api.asked[0])


@pytest.mark.parametrize(
    ("sdk", "model", "headers", "provider"),
    [
        ("openai", "gpt-x", {}, "openai"),
        ("openai", "mistral/large", {}, "mistral"),
        ("openai", "meta-llama/llama-4", {}, "openai"),
        ("openai", "x", {"x_litellm_model_api_base": "https://api.groq.com/openai/v1"}, "groq"),
        ("openai", "gemini/x", {"x_litellm_model_api_base": "http://10.0.0.7:8000"}, "gemini"),
        ("anthropic", "claude-x", {}, "anthropic"),
    ],
)
def test_behind_a_gateway_the_provider_is_not_its_host(
    api, sink, reporter, sdk, model, headers, provider
):
    module = real.module(sdk)
    if sdk == "openai":
        api.answer_json(CHAT, **headers)
        with module.OpenAI(api_key="k", base_url=api.url, max_retries=0) as client:
            instrument(client, reporter).chat.completions.create(model=model, messages=ASKED)
    else:
        api.answer_json(MESSAGE, **headers)
        with module.Anthropic(api_key="k", base_url=api.url, max_retries=0) as client:
            instrument(client, reporter).messages.create(model=model, max_tokens=9, messages=ASKED)
    assert the_event(sink, reporter)["provider"] == provider


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("/v1beta/models/gemini-x:generateContent", "gcp.gemini"),
        ("/v1beta/models/gemini-x:streamGenerateContent", "gcp.gemini"),
        ("/model/anthropic.claude-x/converse-stream", "aws.bedrock"),
        ("/proxy/v1/messages", "anthropic"),
        ("/v1/embeddings", "openai"),
        ("/api/chat", "llm.internal"),
    ],
)
def test_the_path_says_whose_api_a_gateway_serves(path, provider):
    assert provider_behind("llm.internal", path, {}, "") == provider


def test_a_refusal_names_the_model_that_the_path_does(api, sink, reporter):
    httpx = real.module("httpx")
    api.answer_json({"error": {"status": "RESOURCE_EXHAUSTED"}}, 429)
    with instrument(httpx.Client(), reporter, "gcp.gemini") as client:
        client.post(api.url + "/v1beta/models/gemini-x:generateContent", json={"contents": []})
        client.post(api.url + "/v1/models/gemini-y:generateContent", content=iter([b"{}"]))
    reporter.close()
    assert {signal["model"] for signal in sink.signals} == {"gemini-x", "gemini-y"}


def test_an_openai_responses_stream_reports_its_completion(openai, api, sink, reporter):
    api.answer_events(*RESPONSE_STREAM)
    stream = openai.responses.create(model="gpt-x", input="my prompt", stream=True)
    assert [event.type for event in stream][-1] == "response.completed"
    assert the_event(sink, reporter) == RESPONSES_EVENT


def test_embeddings_report_under_an_id_of_their_own(openai, api, sink, reporter):
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    vector = [{"object": "embedding", "index": 0, "embedding": [0.5] * 1000}]
    api.answer_json({"object": "list", "model": "embed-x", "data": vector, "usage": usage})
    openai.embeddings.create(model="embed-x", input="my prompt", encoding_format="float")
    event = the_event(sink, reporter)
    assert len(event.pop("id")) == 32
    assert event == {"provider": "openai", "model": "embed-x", "usage": usage}


def test_an_anthropic_message_reports_usage_and_limits(anthropic, api, sink, reporter):
    api.answer_json(MESSAGE, anthropic_ratelimit_tokens_remaining="7", request_id="req_1")
    answer = anthropic.messages.create(model="claude-x", max_tokens=9, messages=ASKED)
    assert answer.content[0].text == "Hello"
    assert the_event(sink, reporter) == ANTHROPIC_EVENT
    assert sink.signals[0]["headers"] == {"anthropic-ratelimit-tokens-remaining": "7"}


def test_an_anthropic_stream_reports_its_cumulative_usage(anthropic, api, sink, reporter):
    api.answer_events(*MESSAGE_STREAM)
    with anthropic.messages.stream(model="claude-x", max_tokens=9, messages=ASKED) as stream:
        assert "".join(stream.text_stream) == "Hello"
    assert the_event(sink, reporter) == ANTHROPIC_EVENT


def test_an_abandoned_stream_reports_what_was_seen(anthropic, api, sink, reporter):
    api.answer_events(*MESSAGE_STREAM)
    with anthropic.messages.create(
        model="claude-x", max_tokens=9, messages=ASKED, stream=True
    ) as stream:
        next(iter(stream))
    event = the_event(sink, reporter)
    assert event["id"] == "msg_1"
    assert event["usage"]["input_tokens"] == 25


def test_async_clients_report_alike(api, sink, reporter):
    openai, anthropic = real.module("openai"), real.module("anthropic")

    async def program():
        options = {"api_key": "sk-x", "base_url": api.url, "max_retries": 0}
        async with (
            instrument(openai.AsyncOpenAI(**options), reporter, "openai") as gpt,
            instrument(anthropic.AsyncAnthropic(**options), reporter, "anthropic") as claude,
        ):
            api.answer_json(CHAT)
            await gpt.chat.completions.create(model="gpt-x", messages=ASKED)
            api.answer_events(*RESPONSE_STREAM)
            async for _ in await gpt.responses.create(model="gpt-x", input="hi", stream=True):
                pass
            api.answer_events(*MESSAGE_STREAM)
            async with claude.messages.stream(
                model="claude-x", max_tokens=9, messages=ASKED
            ) as stream:
                assert (await stream.get_final_message()).usage.output_tokens == 15
            await reporter.aclose()

    asyncio.run(program())
    for event in sink.events:
        del event["timestamp"]
    assert sink.events == [OPENAI_EVENT, RESPONSES_EVENT, ANTHROPIC_EVENT]


def test_a_refusal_becomes_a_signal_without_its_message(openai, api, sink, reporter):
    error = {"message": "You said: my prompt", "type": "tokens", "code": "rate_limit_exceeded"}
    api.answer_json({"error": error}, 429, retry_after="3", authorization="k")
    with pytest.raises(real.module("openai").RateLimitError, match="my prompt"):
        openai.chat.completions.create(model="gpt-x", messages=ASKED)
    reporter.close()
    assert sink.events == []
    (signal,) = sink.signals
    del signal["timestamp"]
    assert signal == {
        "provider": "openai",
        "status": 429,
        "headers": {"retry-after": "3"},
        "body": {"error": {"type": "tokens", "code": "rate_limit_exceeded"}},
        "model": "gpt-x",
    }
    assert "my prompt" not in str(sink.requests)


def test_every_attempt_of_a_retrying_client_is_signalled(api, sink, reporter):
    sdk = real.module("anthropic")
    api.answer_json({"error": {"type": "rate_limit_error"}}, 429, retry_after="0.01")
    client = instrument(sdk.Anthropic(api_key="k", base_url=api.url, max_retries=1), reporter, "a")
    with client, pytest.raises(sdk.RateLimitError):
        client.messages.create(model="claude-x", max_tokens=9, messages=ASKED)
    reporter.close()
    assert {signal["status"] for signal in sink.signals} == {429}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
class TestBothLibraries:
    @pytest.fixture
    def httpx(self, library):
        return real.module(library)

    @pytest.fixture
    def client(self, httpx, reporter):
        with httpx.Client() as client:
            yield instrument(client, reporter, "gcp.gemini")

    def test_gemini_reports_the_last_count_and_its_success(
        self, client, api, sink, reporter, library
    ):
        parts = [{"promptTokenCount": 4}, {"promptTokenCount": 4, "candidatesTokenCount": 2}]
        api.answer_events(
            *(data({"usageMetadata": u, "modelVersion": "g", "responseId": "r"}) for u in parts)
        )
        client.post(api.url)
        assert the_event(sink, reporter) == {
            "provider": "gcp.gemini",
            "model": "g",
            "id": "r",
            "usage": parts[-1],
        }
        assert [(s["status"], s["headers"]) for s in sink.signals] == [(200, {})]

    @pytest.mark.parametrize("streamed", [True, False])
    def test_a_compressed_body_is_read_from_a_copy(
        self, client, api, sink, reporter, streamed, library
    ):
        body = gzip.compress(json.dumps(CHAT).encode())
        api.answer_json(CHAT, Content_Encoding="gzip")
        api.chunks = [body[i : i + 7] for i in range(0, len(body), 7)]
        if streamed:
            with client.stream("POST", api.url) as response:
                assert b"".join(response.iter_raw()) == body
        else:
            assert client.post(api.url).json() == CHAT
        assert the_event(sink, reporter)["usage"] == CHAT["usage"]

    def test_a_compressed_stream_that_is_abandoned_reports_what_was_seen(
        self, client, api, sink, reporter, library
    ):
        api.answer_events(Content_Encoding="gzip")
        packer = zlib.compressobj(wbits=31)
        for event in MESSAGE_STREAM:
            packed = packer.compress(event.encode() + b"\n\n")
            api.chunks.append(packed + packer.flush(zlib.Z_SYNC_FLUSH))
        with client.stream("POST", api.url) as response:
            next(response.iter_lines())
        assert the_event(sink, reporter)["usage"]["input_tokens"] == 25

    def test_a_body_that_is_not_what_it_says_reaches_the_application_alone(
        self, client, api, sink, reporter, library
    ):
        for kind in ("application/json", "text/event-stream", "image/png", ""):
            api.chunks, api.headers = [b"\xff\x00data:", b'{"usage":'], {"Content-Type": kind}
            assert client.post(api.url).content == b'\xff\x00data:{"usage":'
        reporter.close()
        assert sink.requests == []

    def test_the_time_a_response_took_is_still_known(self, client, api, library):
        api.answer_json({})
        assert client.post(api.url).elapsed.total_seconds() > 0

    def test_a_response_that_is_read_already_is_reported(self, httpx, sink, reporter, library):
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=CHAT))
        client = instrument(httpx.Client(transport=transport), reporter)
        assert client.post("https://api.openai.com/v1/chat/completions").json() == CHAT
        assert the_event(sink, reporter) == OPENAI_EVENT

    def test_an_async_response_is_read_through_a_tee(self, httpx, api, sink, reporter, library):
        async def program():
            async with (
                instrument(httpx.AsyncClient(), reporter, "openai") as client,
                client.stream("POST", api.url) as response,
            ):
                return [line async for line in response.aiter_lines() if line]

        api.answer_events(*CHAT_STREAM)
        assert asyncio.run(program()) == CHAT_STREAM
        assert the_event(sink, reporter) == OPENAI_EVENT

    def test_a_broken_connection_breaks_for_the_application_as_ever(
        self, httpx, client, api, sink, reporter, library
    ):
        api.answer_events(*MESSAGE_STREAM[:1], Content_Length="9999")
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(api.url)
        assert the_event(sink, reporter)["usage"]["input_tokens"] == 25

    def test_instrumenting_again_replaces_and_keeps_other_hooks(
        self, httpx, api, sink, reporter, library
    ):
        called = []
        hooks = {"response": [lambda _: called.append(1)]}
        client = httpx.Client(event_hooks=hooks)
        for name in ("first", "second"):
            instrument(client, reporter, name)
        api.answer_json(CHAT)
        client.post(api.url)
        assert called == [1]
        assert the_event(sink, reporter)["provider"] == "second"

    def test_a_refusal_sent_as_a_success_is_a_signal(self, client, api, sink, reporter, library):
        refusal = {"error": {"code": 429, "metadata": {"limit_source": "free_tier_daily"}}}
        api.answer_json(refusal)
        client.post(api.url)
        reporter.close()
        assert [(s["status"], s["body"]) for s in sink.signals] == [(429, refusal)]

    def test_an_application_outlives_a_failing_reporter(self, httpx, api, library):
        class Broken:
            def __getattr__(self, name):
                raise RuntimeError(name)

        api.answer_json(CHAT, **LIMITS)
        with instrument(httpx.Client(), Broken(), "openai") as client:
            assert client.post(api.url).json() == CHAT
        api.answer_json(CHAT)
        with instrument(httpx.Client(), Broken(), "openai") as client:
            assert client.post(api.url).json() == CHAT


def test_something_without_an_http_client_is_refused(reporter):
    with pytest.raises(TypeError, match="client: expected an httpx client or an SDK's, got <class"):
        instrument(object(), reporter)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("api.anthropic.com", "anthropic"),
        ("my-team.openai.azure.com", "azure.ai.openai"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("openrouter.ai", "openrouter"),
        ("llm.internal", ""),
        ("api.openai.com.evil.example", ""),
    ],
)
def test_the_provider_is_known_by_its_host(host, provider):
    assert provider_at(host) == provider
