"""What is said while a server comes to its end, so that nobody takes its patience for a hang."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.page import say
from workflows_mcp.engine import events
from workflows_mcp.server.texts import counted

if TYPE_CHECKING:
    from workflows_mcp.engine.executor import WorkflowExecutor

__all__ = ["RunsToEnd"]


class RunsToEnd:
    """The runs that are at work on a server, brought to their ends with a word before and after.

    Args:
        executor: Runs them. None may have begun yet.
        outlives: Whether what is saved is still there when the server is gone.
        command: Makes a command that leads to the same database, of its words and `ids`; None: the next start goes on
            with them.
    """

    def __init__(
        self, executor: "WorkflowExecutor", *, outlives: bool, command: Callable[..., str] | None = None
    ) -> None:
        self._executor = executor
        self._outlives = outlives
        self._command = command
        self._at_work: set[str] = set()
        self._left: set[str] | None = None
        executor.add_listener(self._listen)

    async def end(self, grace_seconds: float) -> None:
        """See `WorkflowExecutor.stop`."""
        if self._at_work:
            self._left = set()
            if grace_seconds > 0:
                runs = counted(len(self._at_work), "run")
                say(f"stopping: waits up to {grace_seconds:g} s for {runs} to save; Ctrl-C, or SIGTERM, stops it now")
        await self._executor.stop(grace_seconds)

    def tell(self) -> None:
        """Say what has become of them, if there were any."""
        if self._left is None:
            return
        count = len(self._left)
        if not count:
            say("stopped; every run has come to its end, or to a question")
        elif self._outlives and self._command is not None:
            waits, it = ("waits", "it") if count == 1 else ("wait", "them")
            command = self._command("recover", ids=tuple(self._left) if count == 1 else ())
            runs = f"{counted(count, 'run')} {waits} for a server to go on with {it}"
            say(one_line(f"stopped; {runs}, or for you: {command}"))
        elif self._outlives:
            say(f"stopped; {counted(count, 'run')} {'goes' if count == 1 else 'go'} on elsewhere, or at the next start")
        else:
            say(f"stopped; {counted(count, 'run')} {'is' if count == 1 else 'are'} gone with the memory of the server")

    async def _listen(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._at_work.add(event.run_id)
            case events.RunStopped(reason=reason):
                self._at_work.discard(event.run_id)
                if self._left is not None and reason != "lost":
                    self._left.add(event.run_id)
            case events.RunPaused() | events.RunEnded():
                self._at_work.discard(event.run_id)
