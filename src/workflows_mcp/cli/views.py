"""A run that is watched: live on a terminal, line by line elsewhere, or as JSON."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workflows_mcp.cli.blocks import BlockRow, line_of, row_of
from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.cli.results import show_result
from workflows_mcp.cli.runs import as_data

if TYPE_CHECKING:
    from workflows_mcp.engine.result import WorkflowResult
    from workflows_mcp.engine.run_details import RunDetails

__all__ = ["View", "abandoned_line", "head_line", "result_of_view", "view_run"]


_TO_COME = frozenset({"not begun", "may have begun"})

_MOST_NAMES = 20


class View(Protocol):
    """Shows a run as it goes on."""

    def show(self, run: "RunDetails") -> None:
        """Show it as it is by now."""

    def tell_trouble(self, error: Exception) -> None:
        """Say that the run could not be looked at, and that it is tried again."""

    def end_trouble(self) -> None:
        """Say no more that the run cannot be looked at, since it can be again."""


@contextmanager
def view_run(options: Options, *, keep: bool) -> Iterator[View]:
    """Show a run on stdout: live on a terminal, line by line elsewhere, or as JSON.

    Args:
        options: What was typed.
        keep: Whether it is watched on while it waits for an answer; then its question is shown here.
    """
    page = Page(sys.stdout)
    console = page.unbreakable_console()
    if options.json:
        yield JsonView()
    elif console is None:
        yield LineView(page, options, keep=keep)
    else:
        from rich.live import Live

        from workflows_mcp.cli.live_table import LiveTable

        table = LiveTable(console, options, keep=keep)
        with Live(get_renderable=table.render, console=console, refresh_per_second=4, redirect_stdout=False):
            yield table


@dataclass(frozen=True)
class _Seen:
    """A run as it was shown.

    Attributes:
        run: The run.
        status: What it was called then: that it is abandoned is a matter of time.
    """

    run: "RunDetails"
    status: str

    @classmethod
    def now(cls, run: "RunDetails") -> "_Seen":
        """The run as it is to be shown now."""
        from workflows_mcp.engine.abandoned import shown_status

        return cls(run, shown_status(run))

    def is_news_after(self, last: "_Seen | None") -> bool:
        """Whether more has happened than that its process still holds it."""
        if last is None:
            return True
        before, now = last.run, self.run
        return (before.checkpoint_id, last.status, before.blocks, before.flaw) != (
            now.checkpoint_id, self.status, now.blocks, now.flaw
        )  # fmt: skip


class JsonView:
    """An object a line: the first with all blocks, the others with those that changed."""

    def __init__(self) -> None:
        self._last: _Seen | None = None
        self._trouble = _Trouble()

    def show(self, run: "RunDetails") -> None:
        """See `View`."""
        last, self._last = self._last, _Seen.now(run)
        if not self._last.is_news_after(last):
            return
        blocks = [dataclasses.asdict(row) for row in _changed(last, run)]
        about = {"error": run.error, "flaw": run.flaw, "pause": run.pause_metadata, "outputs": run.outputs}
        print_json({"run": as_data(run), "waves": run.waves, **about, "blocks": blocks}, indent=None)

    def tell_trouble(self, error: Exception) -> None:
        """See `View`."""
        self._trouble.tell(error)

    def end_trouble(self) -> None:
        """See `View`."""
        self._trouble.is_over()


class LineView:
    """A line for each change."""

    def __init__(self, page: Page, options: Options, *, keep: bool) -> None:
        self._page = page
        self._options = options
        self._keep = keep
        self._last: _Seen | None = None
        self._trouble = _Trouble()

    def show(self, run: "RunDetails") -> None:
        """See `View`."""
        last, self._last = self._last, _Seen.now(run)
        if not self._last.is_news_after(last):
            return
        for line in _lines_about(last, self._last, self._options):
            self._page.line(line)
        if self._keep and run.status == "paused":
            show_result(result_of_view(run), run.pause_metadata, self._options)

    def tell_trouble(self, error: Exception) -> None:
        """See `View`."""
        self._trouble.tell(error)

    def end_trouble(self) -> None:
        """See `View`."""
        self._trouble.is_over()


class _Trouble:
    """Tells on stderr that a database does not answer, once each time that it begins."""

    def __init__(self) -> None:
        self._is_told = False

    def tell(self, error: Exception) -> None:
        if not self._is_told:
            say(one_line(f"{error}; looking again every second"))
        self._is_told = True

    def is_over(self) -> None:
        self._is_told = False


def head_line(run: "RunDetails") -> str:
    """Which run it is, and how far it has come."""
    from workflows_mcp.engine.abandoned import shown_status

    where = f", wave {min(run.wave + 1, run.waves)} of {run.waves}" if run.waves and run.status == "running" else ""
    return one_line(f"run {run.run_id} of {run.workflow_name}: {shown_status(run)}{where}")


def abandoned_line(run: "RunDetails", options: Options) -> str:
    """What to do about a run that nobody works on any more."""
    again = command_line("recover", ids=[run.run_id], options=options)
    return f"no process holds it any more; unless a server goes on with it, do so with: {again}"


def result_of_view(run: "RunDetails") -> "WorkflowResult":
    """What a run has come to, as those tell it who have run it."""
    from workflows_mcp.engine.result import WorkflowResult

    error = (run.error or run.flaw or "why was not saved") if run.status == "failure" else None
    return WorkflowResult(run.status, run.run_id, run.outputs, error, run.checkpoint_id, run.prompt)


def _changed(last: _Seen | None, run: "RunDetails") -> list[BlockRow]:
    known = {} if last is None else {block.path: block for block in last.run.blocks}
    return [row_of(block) for block in run.blocks if known.get(block.path) != block]


def _lines_about(last: _Seen | None, seen: _Seen, options: Options) -> Iterator[str]:
    """What is new of a run, in lines; of one that is seen for the first time, how far it has come."""
    run = seen.run
    if last is None:
        yield f"{head_line(run)}{_whose_turn(run)}"
        yield from (f"  {line_of(row)}" for row in _changed(None, run) if row.status not in _TO_COME)
    else:
        statuses = {block.path: block.status for block in last.run.blocks}
        for row in _changed(last, run):
            if statuses.get(row.path) != row.status and row.status not in _TO_COME:
                yield f"  {line_of(row)}"
    if run.flaw is not None and (last is None or last.run.flaw != run.flaw):
        yield f"  {one_line(run.flaw)}"
    if last is not None and last.run.checkpoint_id != run.checkpoint_id:
        yield f"  ● checkpoint {one_line(run.checkpoint_id)} saved ({run.status})"
    if last is not None and run.status == "running" and (last.status, last.run.wave) != (seen.status, run.wave):
        yield f"{head_line(run)}{_whose_turn(run)}"
    if run.is_abandoned and (last is None or last.status != seen.status):
        yield abandoned_line(run, options)


def _whose_turn(run: "RunDetails") -> str:
    names = [block.path for block in run.blocks if block.status == "may have begun"]
    more = len(names) - _MOST_NAMES
    listed = one_line(", ".join(names[:_MOST_NAMES]))
    return f": {listed}{f' and {more:,} more' if more > 0 else ''}" if names else ""
