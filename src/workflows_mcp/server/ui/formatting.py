"""How values are formatted for pages, in Python and as filters of the templates."""

import hashlib
import math
import time
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from workflows_mcp.engine.ages import shown_age
from workflows_mcp.engine.deep import TOO_DEEP, text_if_shallow
from workflows_mcp.engine.signs import sign_of
from workflows_mcp.persistence.sizes import shown_bytes
from workflows_mcp.server.folding import json_text
from workflows_mcp.server.texts import one_line, when
from workflows_mcp.server.ui.drawing.words import span

__all__ = ["FILTERS", "iso", "shown_json"]

_SIGNS_OF_CHECKS = {"ok": "✓", "notice": "!", "problem": "✗"}


def iso(seconds: object) -> str:
    """A Unix time for a machine; empty where there is no such date."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="milliseconds")  # type: ignore[arg-type]
    except (OverflowError, ValueError, OSError, TypeError):
        return ""


def _ago(seconds: object) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "at an unknown time"
    return f"{shown_age(time.time() - seconds)} ago"


def shown_json(value: Any) -> str:  # noqa: ANN401 - JSON data
    """A value to be read: a text as it is, all else as JSON."""
    try:
        return value if isinstance(value, str) else text_if_shallow(lambda: json_text(value))
    except TypeError:  # what is nested a little less deeply is so told there
        return TOO_DEEP


def _line(text: object, most: int = 200) -> str:
    return one_line(str(text), most)


def _exact(text: object) -> Markup:
    """A text as it is, for what is sent back or copied: what would hide in it is not made visible."""
    return escape(str(text))


FILTERS = {
    "age": lambda seconds: shown_age(seconds) if math.isfinite(seconds) else "unknown",
    "ago": _ago,
    "bytes": shown_bytes,
    "clock": lambda seconds: iso(seconds)[11:16],
    "date": lambda seconds: iso(seconds)[:10],
    "css": lambda status: str(status).replace(" ", "-"),
    "exact": _exact,
    "iso": iso,
    "json": shown_json,
    "key": lambda text: hashlib.sha256(str(text).encode(errors="replace")).hexdigest()[:12],  # fit for an element's id
    "line": _line,
    "span": span,
    "sign": lambda status: _SIGNS_OF_CHECKS.get(str(status)) or sign_of(str(status)),
    "when": when,
    "zip": zip,
}
"""What templates can make of a value."""
