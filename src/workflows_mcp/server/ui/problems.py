"""What a person is told in place of a page."""

import logging
from collections.abc import Mapping

from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    LeaseLostError,
    SchemaOutOfDateError,
    SchemaTooNewError,
    StoreUnavailableError,
    WorkflowsError,
)
from workflows_mcp.server.ui.paths import UI_PATH, path_to

__all__ = ["OLD_FORM", "Problem", "problem_of", "problem_of_any", "sentence"]

_log = logging.getLogger(__name__)

OLD_FORM = "the page was opened before the server was started anew, or in a session that is over: send it again"
"""Why a form is shown again that was made for no session of now. What was typed is there: somebody has to look at it,
and to click, so that nothing of another page's making is sent."""


class Problem(Exception):  # noqa: N818 - what a person is told, and no fault
    """Something that a person is told in place of the page that was asked for.

    Args:
        status: HTTP's.
        title: What is the matter.
        text: What happened, and what can be done.
        links: Where to go from here: what is offered, and its path.
    """

    def __init__(self, status: int, title: str, text: str, links: Mapping[str, str] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text
        self.links = dict(links or {})


def sentence(error: Exception) -> str:
    """What an error says, as a sentence begins. It may end with a command: no full stop follows."""
    text = str(error)
    return text[:1].upper() + text[1:]


def problem_of(error: WorkflowsError) -> Problem:
    """What a person is told of an error: its own text is made to be read."""
    text, everything = sentence(error), {"All runs": UI_PATH}
    match error:
        case CheckpointNotFoundError():
            return Problem(404, "It is not there", f"It was deleted, or the address is wrong: {text}", everything)
        case CheckpointAlreadyClaimedError() | LeaseLostError():
            return Problem(409, "Somebody else was first", text, everything)
        case StoreUnavailableError() | SchemaOutOfDateError() | SchemaTooNewError():
            return Problem(
                503, "The database cannot be used now", text, {"Try again": UI_PATH, "Health": path_to("health")}
            )
        case CheckpointStoreError():
            return Problem(500, "The database says no", text, {"All runs": UI_PATH, "Health": path_to("health")})
    return Problem(409, "This cannot be done", text, everything)


def problem_of_any(error: Exception) -> Problem:
    """What a person is told of an error that is none of this package; of one that nobody has foreseen nothing."""
    everything = {"All runs": UI_PATH}
    if type(error) is ValueError:  # what could not be read is quoted in those that derive from it
        return Problem(400, "This cannot be shown", sentence(error), everything)
    _log.error("a page could not be shown: unexpected %s, a bug", type(error).__name__, exc_info=error)
    return Problem(
        500,
        "The server failed",
        "That is a fault of the server, whose log says more. Whether anything was done is not known: look before you "
        "do it again.",
        everything | {"What waits": path_to("waiting"), "Health": path_to("health")},
    )
