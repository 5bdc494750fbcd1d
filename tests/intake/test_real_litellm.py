"""The litellm package's own callback against a local fake of a provider, read as it was sent."""

import asyncio
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from exporter.core.signal import Verdict
from exporter.core.usage import Tokens
from exporter.intake import litellm as intake
from exporter.intake.naming import Naming
from tests import real
from tests.e2e.running import Exporter
from tests.storage.servers import free_port

PAGE = Path(__file__).parents[2] / "docs" / "intake.md"

NOW = 1_800_000_000.0
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
TOKENS = Tokens(input=60, cache_read=40, output=30, reasoning=20)
SPENT = {
    "error": {
        "message": "You exceeded your current quota, please check your plan.",
        "type": "insufficient_quota",
        "code": "insufficient_quota",
    }
}
LIMITS = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "900"}


class Provider(BaseHTTPRequestHandler):
    """Answers chats, refuses the model `spent`, and keeps what is posted to /callback."""

    protocol_version = "HTTP/1.1"
    callbacks: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/callback":
            self.callbacks.append(body)
            self._answer(200, b"{}")
            return
        request = json.loads(body)
        if request["model"] == "spent":
            self._answer(429, json.dumps(SPENT).encode(), {"retry-after": "20"})
        elif request.get("stream"):
            self._answer(200, _events(), LIMITS, "text/event-stream")
        else:
            self._answer(200, json.dumps(_completion()).encode(), LIMITS)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": kind}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: tests read what arrived."""


def _completion() -> dict[str, Any]:
    return {
        "id": "chatcmpl-whole",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "SECRET"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def _events() -> bytes:
    chunk = {
        "id": "chatcmpl-stream",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
    }
    said = {"index": 0, "delta": {"role": "assistant", "content": "SECRET"}, "finish_reason": None}
    done = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [
        {**chunk, "choices": [said]},
        {**chunk, "choices": [done]},
        {**chunk, "choices": [], "usage": USAGE},
    ]
    lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


@pytest.fixture
def provider() -> Iterator[tuple[str, list[bytes]]]:
    handler = type("Handler", (Provider,), {"callbacks": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.callbacks
    server.shutdown()
    thread.join()
    server.server_close()


async def _chat(url: str, model: str, **options: Any) -> Any:
    return await real.module("litellm").acompletion(
        model=f"openai/{model}",
        messages=[{"role": "user", "content": "SECRET"}],
        api_base=f"{url}/v1",
        api_key="sk-none",
        max_retries=0,
        **options,
    )


async def _ask(url: str, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whole answer, one streamed, one refusal; then what the callback makes of them."""
    litellm = real.module("litellm")
    logger_module = real.module("litellm.integrations.generic_api.generic_api_callback")
    logger = logger_module.GenericAPILogger(endpoint=f"{url}/callback", log_format=log_format)
    logger.flush_interval = 3600  # a slow machine must not part the batch
    monkeypatch.setattr(litellm, "callbacks", [logger])
    await _chat(url, "gpt-4o")
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    async for _ in await _chat(url, "gpt-4o", **streamed):
        pass
    with pytest.raises(litellm.RateLimitError):
        await _chat(url, "spent")
    async with asyncio.timeout(60):
        while len(logger.log_queue) < 3:
            await asyncio.sleep(0.01)
    await logger.async_send_batch()


@pytest.mark.parametrize("log_format", ["json_array", "ndjson", "single"])
def test_whole_streamed_and_refused_requests_arrive_in_every_body_form(
    log_format: str, provider: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real.module("litellm")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    url, callbacks = provider
    asyncio.run(_ask(url, log_format, monkeypatch))

    assert len(callbacks) == (3 if log_format == "single" else 1)
    readings = [intake.read(body, Naming({}, [], ["openai"]), NOW) for body in callbacks]
    usages = {usage.id: usage for reading in readings for usage in reading.usages}
    assert set(usages) == {"chatcmpl-whole", "chatcmpl-stream"}
    for usage in usages.values():
        assert (usage.provider, usage.model, usage.tokens) == ("openai", "gpt-4o", TOKENS)
        assert usage.timestamp is not None

    signals = [signal for reading in readings for signal in reading.signals]
    assert Verdict.EXHAUSTED in {signal.verdict for signal in signals}
    limits = [limit for signal in signals for limit in signal.limits]
    assert {(limit.limit, limit.remaining) for limit in limits} == {(1000, 900)}
    assert not any(reading.rejected or reading.uncharged for reading in readings)
    assert any(b"SECRET" in body for body in callbacks)
    assert "SECRET" not in repr(readings)


SETTINGS = yaml.safe_load(
    re.search(r"```yaml\n(litellm_settings:\n.*?)```", PAGE.read_text(), re.DOTALL)[1]  # type: ignore[index]  # it is there
)


async def _ask_while_it_is_away(
    exporter: Exporter, address: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    litellm = real.module("litellm")
    manager = real.module("litellm.litellm_core_utils.logging_callback_manager")
    (name,) = SETTINGS["litellm_settings"]["callbacks"]
    settings = {**SETTINGS["callback_settings"][name], "retry_delay": 0.1}
    settings["endpoint"] = settings["endpoint"].replace("exporter:10042", address)
    monkeypatch.setattr(litellm, "callback_settings", {name: settings})
    logger = manager.LoggingCallbackManager.add_custom_callback_generic_api_str(name)
    monkeypatch.setattr(litellm, "callbacks", [logger])
    await _chat(url, "gpt-4o")
    async with asyncio.timeout(60):
        while not logger.log_queue:
            await asyncio.sleep(0.01)
    sending = asyncio.create_task(logger.async_send_batch())
    await asyncio.sleep(0)
    await asyncio.to_thread(exporter.start)
    await sending


def test_nothing_is_lost_while_the_exporter_starts_anew_with_the_settings_of_the_documentation(
    provider: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real.module("litellm")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    url, _ = provider
    address = f"127.0.0.1:{free_port()}"
    with Exporter(tmp_path, "", f"--web.listen-address={address}") as exporter:
        exporter.kill()
        asyncio.run(_ask_while_it_is_away(exporter, address, url, monkeypatch))
        assert exporter.value("llm_quota_requests_total", provider="openai", model="gpt-4o") == 1
