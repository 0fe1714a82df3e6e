"""Lists that come in pages: how long one is, and where the next one begins."""

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from workflows_mcp.engine.filters import position_before
from workflows_mcp.server.tools.tool import TextOrNone

__all__ = ["Before", "Limit", "Next", "check_before", "page_of"]

Limit = Annotated[int, Field(ge=1, le=200, description="The most to list.")]

Before = Annotated[
    TextOrNone,
    Field(description="Goes on after a page: what its `next` said. Without it the list begins with the newest."),
]

Next = Annotated[
    str | None, Field(description="Where the next page begins, for `before`; null: there is nothing more.")
]


class _Listed(Protocol):
    @property
    def cursor(self) -> str: ...


ListedT = TypeVar("ListedT", bound=_Listed)


def check_before(before: str | None) -> None:
    """Make sure that what was given as `before` is the end of a page.

    Raises:
        ToolError: It is not.
    """
    try:
        position_before(before)
    except ValueError:
        wrong = True
    else:
        wrong = False
    if wrong:
        raise ToolError(
            "before takes what `next` of another page of the same list said, unchanged. Leave it out to begin with the "
            "newest"
        )


def page_of(found: Sequence[ListedT], limit: int) -> tuple[Sequence[ListedT], str | None]:
    """A page, and where the next one begins.

    Args:
        found: One more than the page holds, if there is another page.
        limit: How many it holds at most.
    """
    page = found[:limit]
    return page, page[-1].cursor if len(found) > limit else None
