"""Where the pages are, and how they are served. Loads nothing of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from workflows_mcp.engine.commands import command_to_type

__all__ = ["UI_PATH", "UiOptions", "path_to"]

UI_PATH = "/ui"


@dataclass(frozen=True)
class UiOptions:
    """How the pages are served.

    Attributes:
        read_only: Whether they only show, and change nothing.
        words: What follows the commands that they tell, so that these lead to the same database.
    """

    read_only: bool = False
    words: tuple[str, ...] = ()

    def command(self, *words: str, ids: Sequence[str] = ()) -> str:
        """A command that leads to the same database, as it is typed: see `command_to_type`."""
        return command_to_type(words, ids, self.words)


def path_to(page: str, **query: str | int | None) -> str:
    """The path of a page: ids stand in its query, since they may hold anything.

    Args:
        page: Its name; empty: the first one.
        query: What it shows; what is None is left out.
    """
    given = {name: value for name, value in query.items() if value is not None}
    path = f"{UI_PATH}/{page}" if page else UI_PATH
    return f"{path}?{urlencode(given, errors='replace')}" if given else path
