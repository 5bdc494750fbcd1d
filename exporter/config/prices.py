"""The sections about money: prices by model, and LiteLLM's public price file."""

import errno
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from exporter.config import readers as read
from exporter.config.document import Value
from exporter.config.files import read_file
from exporter.config.problems import Invalid
from exporter.core.budget import NANO
from exporter.core.prices import PRICED, Price, price

MAX_PRICE = 1_000_000
"""USD per million tokens."""

MAX_FILE_BYTES = 64 * 2**20


class _Listed(msgspec.Struct):
    """A model in LiteLLM's `model_prices_and_context_window.json`; USD per token."""

    litellm_provider: str = ""
    input_cost_per_token: float | str | None = None
    output_cost_per_token: float | str | None = None
    cache_read_input_token_cost: float | str | None = None
    cache_creation_input_token_cost: float | str | None = None
    cache_creation_input_token_cost_above_1hr: float | str | None = None
    output_cost_per_reasoning_token: float | str | None = None


_COLUMNS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
}
_models = msgspec.json.Decoder(dict[str, msgspec.Raw])
_listed = msgspec.json.Decoder(_Listed)


def configured(value: Value) -> Mapping[str, Price]:
    """`prices`: pattern of a model -> USD per million tokens by kind."""
    found = {}
    for pattern, entry in value.entries().items():
        if not pattern or not pattern.isprintable():
            entry.note(f"expected a model's name or a pattern, got {pattern!r}")
        found[pattern] = entry.read(_price, price({}))
    return found


def _price(value: Value) -> Price:
    table = value.table(*PRICED)
    if not table.entries:
        raise Invalid(f"expected a price for {', '.join(PRICED)}", "none")
    return price({kind: table.read(kind, _per_million, 0) for kind in table.entries})


def _per_million(value: Value) -> int:
    expected = f"expected USD per million tokens, from 0 to {MAX_PRICE:_}"
    return read.nano(value, Decimal(0), Decimal(MAX_PRICE), expected)


def listed(value: Value) -> Mapping[str, Price]:
    """`prices_file`: a file in the format of LiteLLM's public price file."""
    path = read.file(value)
    try:
        models = _models.decode(read_file(path, MAX_FILE_BYTES))
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ETIMEDOUT):
            raise Invalid("expected a JSON file", str(error.strerror)) from None
        return {}  # `load` says so, as of every file that cannot be read
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid("expected a JSON object of models with prices", str(error)) from None
    found: dict[str, Price] = {}
    for model, raw in models.items():
        try:
            one = _listed.decode(raw)
        except msgspec.ValidationError:
            continue  # its sample of all fields, and whatever later versions invent
        dollars = {
            kind: amount
            for kind, column in _COLUMNS.items()
            if (amount := _nano_per_million(getattr(one, column))) is not None
        }
        if dollars:
            found[model] = price(dollars)
            prefix, _, rest = model.partition("/")
            if rest and prefix == one.litellm_provider:
                found.setdefault(rest, found[model])
    return found


def _nano_per_million(per_token: float | str | None) -> int | None:
    try:
        found = Decimal(str(per_token)) if per_token is not None else None
    except InvalidOperation:
        return None
    if found is None or not found.is_finite() or not 0 <= found <= 1:
        return None
    return round(found * 10**6 * NANO)
