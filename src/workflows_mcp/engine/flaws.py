"""What is wrong with a workflow: found one after the other, told together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["Flaws", "flawed"]

_MOST_SHOWN = 5


def flawed(label: str, problems: Sequence[str]) -> WorkflowDefinitionError:
    """The error for a workflow; its text shows the first few problems, its `problems` are all of them.

    Args:
        label: What the workflow is called in messages.
        problems: What is wrong with it, at least one thing.
    """
    shown = "; ".join(problems[:_MOST_SHOWN])
    more = len(problems) - _MOST_SHOWN
    return WorkflowDefinitionError(f"{label}: {shown}{f'; and {more} more' if more > 0 else ''}", problems)


class Flaws:
    """Gathers what is wrong with a workflow.

    Args:
        label: What the workflow is called in messages.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._found: list[str] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Go on after what is wrong in here."""
        try:
            yield
        except WorkflowDefinitionError as error:
            self._found.append(str(error).removeprefix(self._label).lstrip(":, "))

    def tell(self) -> None:
        """Raise an error if something is wrong.

        Raises:
            WorkflowDefinitionError: All that was found.
        """
        if self._found:
            raise flawed(self._label, self._found)
