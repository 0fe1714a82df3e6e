"""Short texts for whoever reads what the tools answer: lines of lists, times, what is left out."""

from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = ["counted", "list_lines", "one_line", "text_of", "texts_of", "when"]

_MOST_LINES = 50


def counted(count: int, what: str) -> str:
    """A number of things, with an s where they are not one."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def one_line(text: str, most: int = 200) -> str:
    """A text in one line, cut where it is longer than a reader of a list wants it."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def list_lines(lines: Iterable[str], rest: str = "the structured content has them") -> str:
    """The lines of a list, up to a sensible number.

    Args:
        lines: Each of them.
        rest: Says where the others are.
    """
    listed = [f"- {line}" for line in lines]
    more = len(listed) - _MOST_LINES
    return "\n".join([*listed[:_MOST_LINES], *([f"… and {more:,} more: {rest}"] if more > 0 else [])])


def text_of(value: object) -> str | None:
    """The value if it is text, and fit to be sent: other programs may save anything in its place."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def texts_of(value: object) -> list[str]:
    """The texts in a list, likewise; empty: it is none."""
    return [text for one in value if (text := text_of(one)) is not None] if isinstance(value, list) else []


def when(seconds: float) -> str:
    """A Unix time as a date and time in UTC; the number itself where there is no such date."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError, TypeError):  # of the last kind is what no store has written
        return repr(seconds)
