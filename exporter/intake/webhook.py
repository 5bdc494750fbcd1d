"""`POST /v1/webhooks/{name}`: what a gateway posts for its requests, read as the section `webhooks`
of the configuration says. Whatever else is in it, such as a prompt, is neither kept nor logged."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonpath
import msgspec

from exporter.config import Webhook
from exporter.core.moment import unix_seconds
from exporter.core.usage import KINDS, Tokens, Usage
from exporter.intake import rejections
from exporter.intake.format import JSON_ANSWERS, JSON_TYPES, Context, Format, Push
from exporter.intake.json_items import json_items
from exporter.intake.reading import MalformedBody, Reading, Rejection, check_items, shown
from exporter.intake.signals.judge import read_response
from exporter.intake.usage_object import UsageObject, count, nano_usd, read_usage

_decoder = msgspec.json.Decoder()

_compiled = lru_cache(maxsize=1000)(jsonpath.compile)

_UNITS = ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6), (1e20, 1e-9))
"""Below which number a moment is in which unit, in seconds: seconds until the year 5138, from there
milliseconds since 1973, microseconds and nanoseconds. There is none beyond."""


def _read(push: Push, context: Context) -> Reading:
    webhook = context.webhooks.get(push.name)
    if webhook is None:
        known = ", ".join(context.webhooks) or "none, the configuration has no webhooks"
        raise MalformedBody(f"webhook: expected one of {known}, got {shown(push.name)}")
    reading = Reading()
    index = 0
    for items in _items(push.body, webhook, context.max_items):
        if not items:  # its usage would be missing, and nobody would know
            why = f"items: expected one or more at {webhook.items}, got none"
            reading.rejected.append(Rejection(index, why))
            index += 1
        for item in items:
            with rejections.item(reading.rejected, index):
                _read_item(item, webhook.fields, reading, context)
            index += 1
    return reading


def _items(body: bytes, webhook: Webhook, most: int) -> Iterator[list[Any]]:
    """The items of each object in a body."""
    bodies = json_items(body)
    check_items(len(bodies), most)
    found = 0
    for raw in bodies:
        try:
            decoded = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise MalformedBody(f"not JSON: {error}") from error
        items = _compiled(webhook.items).findall(decoded) if webhook.items else [decoded]
        check_items(found := found + len(items), most)
        yield items


def _read_item(item: Any, fields: Mapping[str, str], reading: Reading, context: Context) -> None:
    def value(field: str) -> Any:
        """What an item says in a field; None where it says nothing."""
        where = fields.get(field, "$.")
        if not where.startswith("$"):
            return where
        found = _compiled(where).match(item) if field in fields else None
        return None if found is None else found.value

    def text(field: str) -> str:
        given = value(field)
        if given is not None and not isinstance(given, str):
            raise ValueError(f"{field}: expected a text, got {shown(given)}")
        return given or ""

    reported, model = text("provider"), text("model")
    provider = context.naming.of_call(reported, {"model": model})
    if not provider:
        raise ValueError(
            f"provider: expected a name at {fields['provider']}, got {shown(reported)}"
        )
    at, consumer = _moment(value("timestamp")), text("consumer")
    status = _number(value("status"), "status")
    if status:
        signal = read_response(
            provider,
            status,
            _headers(value("headers")),
            value("body"),
            context.now if at is None else at,
            model,
            consumer,
            context.exhausted_from,
        )
        if status >= 400 or signal.limits:
            reading.signals.append(signal)
        if status >= 400:
            return
    found = _usage(value)
    if not any(found.tokens):
        reading.uncharged["no_usage"] = reading.uncharged.get("no_usage", 0) + 1
        return
    reading.usages.append(
        Usage(
            provider,
            found.tokens,
            model,
            _identity(value("id")),
            at,
            consumer=consumer,
            cost_nano_usd=found.cost_nano_usd,
            cache_write_1h=found.cache_write_1h,
        )
    )


def _usage(value: Any) -> UsageObject:
    given, cost = value("usage"), value("cost_usd")
    if given is None:
        found = UsageObject(Tokens(*(_number(value(kind), kind) for kind in KINDS)))
    elif isinstance(given, dict):
        found = read_usage(given)
    else:
        raise ValueError(f"usage: expected an object, got {shown(given)}")
    if cost is None:
        return found
    return found._replace(cost_nano_usd=nano_usd(_decimal(cost), "cost_usd"))


def _headers(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value:
        raise ValueError(f"headers: expected an object, got {shown(value)}")
    return {}


def _decimal(value: object) -> object:
    """A number, also where it is written as a text: variables of nginx always are."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _number(value: object, field: str) -> int:
    return 0 if value in ("", "-") else count(_decimal(value), field)


def _identity(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"id: expected a text or an integer, got {shown(value)}")


def _moment(value: object) -> float | None:
    """Unix seconds of an RFC 3339 text, or of a number in the unit that its size tells."""
    if value is None:
        return None
    number = _decimal(value)
    if isinstance(number, str):
        try:
            return unix_seconds(number)
        except ValueError:
            pass
    elif isinstance(number, int | float) and not isinstance(number, bool):
        for most, unit in _UNITS:
            if 0 <= number < most:
                return number * unit
    raise ValueError(
        f"timestamp: expected Unix time or RFC 3339 with an offset, got {shown(value)}"
    )


FORMAT = Format(
    path="/v1/webhooks/{name}",
    source="webhook",
    summary="Push what a gateway posts for its requests, read as the configuration says.",
    read=_read,
    media_types=JSON_TYPES,
    encoding=JSON_ANSWERS,
)
