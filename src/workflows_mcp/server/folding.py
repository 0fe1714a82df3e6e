"""Large JSON data made small enough to be looked at: what is too large in it is said to be, in its place."""

import json
from typing import Any

__all__ = ["folded", "size_of"]


def size_of(value: Any) -> int:  # noqa: ANN401 - JSON data
    """How many characters it has as JSON."""
    return len(json.dumps(value, ensure_ascii=False))


def folded(value: Any, most: int) -> Any:  # noqa: ANN401 - JSON data
    """The value with a note in the place of each text that alone is larger.

    Args:
        value: JSON data.
        most: How many characters of JSON a value may have to be left as it is. A dict or a list that has more keeps
            its shape, and what is in it is looked at likewise.
    """
    size = size_of(value)
    if size <= most:
        return value
    if isinstance(value, dict):
        return {key: folded(one, most) for key, one in value.items()}
    if isinstance(value, list):
        return [folded(one, most) for one in value]
    return f"(left out: {size:,} characters)" if isinstance(value, str) else value
