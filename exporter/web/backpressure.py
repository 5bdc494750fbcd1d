"""Back-pressure for large answers: they leave in pieces, and count until they have left."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.outstanding import Outstanding
from exporter.web.reply import RETRY_AFTER

PIECE = 64 * 1024
"""Bytes handed to a connection at a time: what it keeps for a client that does not read."""


class BackPressureMiddleware:
    """Holds the bytes of every answer that is larger than a piece until it has left, and refuses
    it when others hold too many.

    uvicorn waits before each piece until the client has taken those before it.
    """

    def __init__(self, app: ASGIApp, outstanding: Outstanding) -> None:
        self._app = app
        self._outstanding = outstanding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def send_pieces(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message  # until it is certain that it will be this one
                return
            body = message.get("body", b"")
            # What is streamed comes at the pace of its client, and only a whole answer piles up.
            size = len(body) if start is not None and len(body) > PIECE else 0
            if size and not self._outstanding.hold(size):
                error = {"error": "other answers hold too many bytes"}
                headers = {"retry-after": RETRY_AFTER, "connection": "close"}
                await JSONResponse(error, 503, headers)(scope, receive, send)
                return
            try:
                if start is not None:
                    first, start = start, None
                    await send(first)
                last = max(len(body) - 1, 0) // PIECE * PIECE
                for at in range(0, last, PIECE):
                    await send({**message, "body": body[at : at + PIECE], "more_body": True})
                await send({**message, "body": body[last:]})
            finally:
                self._outstanding.release(size)

        await self._app(scope, receive, send_pieces)
