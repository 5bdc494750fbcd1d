"""What is answered, as schemas for the description of the interface."""

from typing import Any

from exporter.core.quota_state import Reason, State

_TIME = {"type": ["string", "null"], "format": "date-time"}
_NUMBER = {"type": ["number", "null"]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}

SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "Answer": {
        "type": "object",
        "required": ["accepted", "duplicates", "rejected"],
        "properties": {
            "accepted": {"type": "integer", "minimum": 0},
            "duplicates": {"type": "integer", "minimum": 0},
            "rejected": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "error"],
                    "properties": {
                        "index": {"type": "integer", "minimum": 0},
                        "error": {"type": "string"},
                    },
                },
            },
            "more_rejected": {
                "type": "integer",
                "minimum": 1,
                "description": "How many more were rejected than are listed.",
            },
        },
    },
    "Period": {
        "type": "object",
        "properties": {
            "budget_tokens": {"type": "integer"},
            "used_tokens": {"type": "number"},
            "window_start": _TIME,
            "window_end": _TIME,
            "projected_tokens": {"type": "number"},
            "projected_tokens_lower": {"type": "number"},
            "projected_tokens_upper": {"type": "number"},
            "exhaustion_probability": {"type": "number", "minimum": 0, "maximum": 1},
            "exhaustion_at": _TIME,
            "burn_rate": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    },
    "Limit": {
        "type": "object",
        "properties": {
            "limit": _NUMBER,
            "remaining": _NUMBER,
            "utilization": _NUMBER,
            "reset_at": _TIME,
            "reported_at": _TIME,
            "drift": _NUMBER,
        },
    },
    "Explanation": {
        "type": "object",
        "required": ["provider", "quotas"],
        "properties": {
            "provider": {"type": "string"},
            "quotas": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["period", "unit", "budget", "used", "course", "learning"],
                    "properties": {
                        "period": {"type": "string"},
                        "unit": {"type": "string"},
                        "budget": {"type": "number"},
                        "used": {"type": "number"},
                        "exhaustion_probability": _SHARE,
                        "exhaustion_at": _TIME,
                        "history_days": {"type": "number", "minimum": 0},
                        "learning": {"type": "boolean"},
                        "windows": {
                            "type": "integer",
                            "minimum": 0,
                            "description": "How many earlier windows were scored.",
                        },
                        "course": {
                            "type": "object",
                            "description": "From the window's start to its end: Unix seconds, "
                            "what was used by then, and quantiles (50, 10 and 90 %) of what "
                            "earlier windows had used; empty when none is known.",
                            "properties": {
                                name: {"type": "array", "items": {"type": "number"}}
                                for name in (
                                    *("timestamps", "used"),
                                    *("usual", "usual_lower", "usual_upper"),
                                )
                            },
                        },
                        "record": {
                            "type": ["object", "null"],
                            "description": "How right the forecasts of this budget were.",
                            "properties": {
                                "windows": {"type": "integer"},
                                "brier": _SHARE,
                                "mean_probability": _SHARE,
                                "share_exhausted": _SHARE,
                            },
                        },
                    },
                },
            },
        },
    },
    "Scope": {
        "type": "object",
        "required": ["provider", "state"],
        "properties": {
            "provider": {"type": "string"},
            "model": {"type": "string"},
            "consumer": {"type": "string"},
            "state": {"enum": [state.value for state in State]},
            "reason": {"enum": [*(reason.value for reason in Reason), None]},
            "retry_after": _TIME,
            "throttled_until": _TIME,
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
            "exhaustion_at": _TIME,
        },
    },
    "Provider": {
        "type": "object",
        "required": ["provider", "state", "periods"],
        "properties": {
            "provider": {"type": "string"},
            "state": {"enum": [state.value for state in State]},
            "reason": {"enum": [*(reason.value for reason in Reason), None]},
            "retry_after": _TIME,
            "detail": {"type": "string"},
            "recovery_pending": {"type": "boolean"},
            "throttled_until": _TIME,
            "periods": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Period"},
            },
            "limits": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Limit"},
            },
        },
    },
}
