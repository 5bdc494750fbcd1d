"""What refusals say, as data: every row with its source."""

import re
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporter.core.signal import Refusal
from exporter.core.windows import DAY, HOUR, MINUTE, Calendar, Unit
from exporter.intake.signals.response import QUOTA

WEEK = 7 * DAY
MONTH = 30 * DAY

UTC = ZoneInfo("UTC")
_MONTH = Calendar(Unit.MONTH, UTC)


class Row(NamedTuple):
    """What one phrase means.

    Attributes:
        name: for people.
        reason: why the provider refuses.
        length: seconds of the limit's period; 0 a short one, `QUOTA` a longer one of any length.
        pattern: what the error says, in lower case.
        ends: the calendar that the limit follows, where that is documented.
        whole: nothing else that the error says of periods counts.
    """

    name: str
    reason: Refusal
    length: float
    pattern: re.Pattern[str]
    ends: Calendar | None = None
    whole: bool = False


def _phrase(text: str) -> re.Pattern[str]:
    """Words may be joined by spaces, dashes or underscores, or not be parted at all."""
    return re.compile(text.replace(" ", r"[\s_-]*"), re.ASCII)


ROWS: tuple[Row, ...] = (
    # https://developers.openai.com/api/docs/guides/spend-limits: "the limit resets in the next
    # monthly cycle"; help.openai.com/en/articles/6614457 has all four. Credits have no cycle;
    # somebody has to buy some, and until then the end of the month is as good as any.
    Row(
        "spend_limit",
        Refusal.BILLING,
        QUOTA,
        _phrase(
            r"(?:organization|project) spend limit exceeded|organization usage limit exceeded"
            r"|credit balance exhausted"
        ),
        _MONTH,
    ),
    # https://platform.claude.com/docs/en/api/rate-limits: "until 00:00 UTC on the first day of
    # the next month"
    Row("spend_limit", Refusal.BILLING, QUOTA, _phrase("enforced spend limit reached"), _MONTH),
    # https://platform.openai.com/docs/guides/error-codes. Its message ("You exceeded your
    # current quota, …") proves nothing: Gemini says the same of a limit per minute.
    Row(
        "billing",
        Refusal.BILLING,
        QUOTA,
        _phrase(r"insufficient quota|billing hard limit reached"),
    ),
    # https://platform.claude.com/docs/en/api/errors, sent as 400
    Row(
        "billing",
        Refusal.BILLING,
        QUOTA,
        _phrase(r"credit balance is too low|specified (?:workspace )?api usage limits"),
    ),
    # https://api-docs.deepseek.com/quick_start/error_codes, MiniMax-AI/MiniMax-M2#62 (sent as 500)
    Row(
        "billing",
        Refusal.BILLING,
        QUOTA,
        _phrase(r"insufficient (?:account )?(?:balance|credits|funds)"),
    ),
    # https://discuss.ai.google.dev/t/183654: 402, before that 429
    Row("billing", Refusal.BILLING, QUOTA, _phrase(r"credits are depleted")),
    # https://www.volcengine.com/docs/82379/1299023, sent as 403
    Row("billing", Refusal.BILLING, QUOTA, _phrase(r"account overdue|overdue balance")),
    # xAI, sent as 429 and as 403 (continuedev/continue#10373, warpdotdev/warp#14863). Which of
    # the two it is nobody says, so that the month in its words means nothing.
    Row(
        "billing",
        Refusal.BILLING,
        QUOTA,
        _phrase(r"used all available credits"),
        whole=True,
    ),
    Row("billing", Refusal.BILLING, QUOTA, _phrase(r"exceeded current quota error")),  # Moonshot
    # OpenRouter, sent as 403, and its short-lived relative
    Row("key", Refusal.BILLING, QUOTA, _phrase(r"key limit exceeded")),
    Row("in_flight", Refusal.RATE, 1.0, _phrase(r"in flight budget"), whole=True),
    # The Codex backend, MiniMax' token plan, Kimi Code
    # (https://www.kimi.com/code/docs/en/kimi-code/error-reference.html)
    Row("plan", Refusal.QUOTA, QUOTA, _phrase(r"usage limit reached|reached your usage limit")),
    # Copilot, sent as 402 (earendil-works/pi#3643); premium requests start over with the month:
    # https://docs.github.com/en/copilot/concepts/billing/copilot-requests
    Row("plan", Refusal.QUOTA, QUOTA, _phrase(r"you have no quota"), _MONTH),
    # https://learn.microsoft.com/azure/api-management/llm-token-limit-policy, sent as 403
    Row(
        "quota",
        Refusal.QUOTA,
        QUOTA,
        _phrase(r"token quota (?:is|has been) exceeded|volume quota"),
    ),
    Row("quota", Refusal.QUOTA, QUOTA, _phrase(r"free allocated quota exceeded")),  # Qwen
    # https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
    Row(
        "throttled",
        Refusal.RATE,
        0.0,
        _phrase(r"throttlingexception|servicequotaexceededexception"),
    ),
)

OVERLOAD = _phrase(
    # Anthropic, OpenAI, Gemini, DeepSeek, Moonshot, Mistral
    r"overloaded|capacity exceeded|capacity (?:was |is )?temporarily exceeded"
    r"|no capacity available|model capacity exhausted|is at capacity"
    # Azure, OpenRouter, Bedrock, Zhipu
    r"|experiencing high demand|temporarily unable to process your request"
    r"|upstream provider shared pool|temporarily rate limited upstream|modelnotreadyexception"
    r"|访问量过大"
)
"""Said instead of 503 or 529: the provider has no capacity, whoever asks."""

OVERLOADED = (503, 529)

PERIODS: tuple[tuple[str, float, re.Pattern[str]], ...] = (
    ("per_second", 1, _phrase(r"per second|\brps\b")),
    ("per_minute", MINUTE, _phrase(r"per min(?:ute|\b)|\b[rt]pm\b|/ min(?:ute)?\b")),
    ("per_hour", HOUR, _phrase(r"per hour|hourly|\b[rt]ph\b|/ hour\b")),
    ("per_day", DAY, _phrase(r"per day|daily(?![a-z])|\b[rt]pd\b|/ day\b|per 86400s")),
    ("per_week", WEEK, _phrase(r"per week|weekly|/ week\b")),
    ("per_month", MONTH, _phrase(r"per month|monthly|/ month\b")),
)
