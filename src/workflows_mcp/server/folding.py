"""JSON data made fit to be looked at: what is too large in it, or no JSON, is said to be, in its place."""

import json
import math
from typing import Any

__all__ = ["folded", "json_text", "size_of"]


def size_of(value: Any) -> int:  # noqa: ANN401 - JSON data
    """How many characters it has as JSON."""
    return len(json.dumps(value, ensure_ascii=False))


def json_text(value: Any) -> str:  # noqa: ANN401 - JSON data
    """The value as JSON to be read; what other programs may have saved, and JSON has not, stands there as text."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
        text.encode()
    except ValueError:  # a number that is none, or half of a character
        return json.dumps(_without_odd_numbers(value), indent=2)
    return text


def _without_odd_numbers(value: Any) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(value, dict):
        return {key: _without_odd_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_odd_numbers(one) for one in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def folded(value: Any, most: int) -> Any:  # noqa: ANN401 - JSON data
    """The value with a note in the place of each text that has more than so many characters."""
    if isinstance(value, dict):
        return {key: folded(one, most) for key, one in value.items()}
    if isinstance(value, list):
        return [folded(one, most) for one in value]
    is_large = isinstance(value, str) and len(value) > most
    return f"(left out: {len(value):,} characters)" if is_large else value
