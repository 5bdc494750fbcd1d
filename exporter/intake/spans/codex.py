"""OpenAI's Codex: `handle_responses` has what a call used, the spans around it have the turn's.

https://github.com/openai/codex, `codex-rs/core` and `codex-rs/otel`. It names no provider.
"""

from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import NOT_INFERENCE, Attributes, Call, Convention, largest

_REASONING = ("codex.usage.reasoning_output_tokens",)
_CALL = frozenset({*_REASONING, "codex.usage.total_tokens"})
_TURN = frozenset({"codex.turn.token_usage.total_tokens", "codex.turn.token_usage.input_tokens"})


def read(found: Attributes) -> Call | str:
    """The call, and none of what sums calls up."""
    if _CALL.isdisjoint(found):
        return NOT_INFERENCE
    call = gen_ai.call(found)
    reasoning = min(largest(found, _REASONING), call.tokens.output)
    tokens = call.tokens._replace(output=call.tokens.output - reasoning, reasoning=reasoning)
    return call._replace(provider=call.provider or "openai", tokens=tokens)


CONVENTION = Convention("Codex", _CALL | _TURN, gen_ai.MARKS | gen_ai.ATTRIBUTES, read)
