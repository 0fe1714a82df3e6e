"""Large JSON data made small enough to be looked at: what is too large in it is said to be, in its place."""

import json
from typing import Any

__all__ = ["folded", "size_of"]


def size_of(value: Any) -> int:  # noqa: ANN401 - JSON data
    """How many characters it has as JSON."""
    return len(json.dumps(value, ensure_ascii=False))


def folded(value: Any, most: int) -> Any:  # noqa: ANN401 - JSON data
    """The value with a note in the place of each text that has more than so many characters."""
    if isinstance(value, dict):
        return {key: folded(one, most) for key, one in value.items()}
    if isinstance(value, list):
        return [folded(one, most) for one in value]
    is_large = isinstance(value, str) and len(value) > most
    return f"(left out: {len(value):,} characters)" if is_large else value
