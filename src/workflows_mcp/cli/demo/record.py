"""Who ran which block: the demo's evidence."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows_mcp.engine.events import Event

__all__ = ["Record"]


class Record:
    """What the worker processes have told, by block and process.

    Attributes:
        pids: The processes, in their order.
        blocks: What became of a block in each process that touched it.
        saved: The blocks that were saved as done when the first process was killed.
    """

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.blocks: dict[str, dict[int, str]] = {}
        self.saved: list[str] = []

    def take(self, pid: int, event: "Event") -> None:
        """Write down an event."""
        from workflows_mcp.engine import events

        if pid not in self.pids:
            self.pids.append(pid)
        match event:
            case events.BlockStarted():
                self._set(event.block_id, pid, "killed")  # if nothing more is heard of it
            case events.BlockFinished():
                self._set(event.block_id, pid, "done" if event.status == "succeeded" else "failed")
            case events.BlockSkipped():
                self._set(event.block_id, pid, "skipped")
            case events.RunPaused():
                self._set(event.block_id, pid, "asked")

    def is_time_to_kill(self, event: "Event") -> bool:
        """Whether a wave is saved, and a block of the next one just ended while others are at work."""
        from workflows_mcp.engine.events import BlockFinished

        return isinstance(event, BlockFinished) and event.wave > 0 and bool(self.killed(self.pids[0]))

    def killed(self, pid: int) -> list[str]:
        """The blocks that were at work in a process, and are not known to have ended."""
        return [block_id for block_id, fates in self.blocks.items() if fates.get(pid) == "killed"]

    def finished_unsaved(self) -> list[str]:
        """The blocks that had ended in the first process, but were not saved."""
        first = self.pids[0]
        return [
            block_id
            for block_id, fates in self.blocks.items()
            if block_id not in self.saved and fates.get(first, "killed") != "killed"
        ]

    def ran_again(self, pid: int) -> list[str]:
        """The blocks that were saved as done and that a later process touched all the same."""
        return [block_id for block_id in self.saved if pid in self.blocks[block_id]]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The columns and rows of a table: a block each, with a column for each process."""
        first = self.pids[0]
        rows = []
        for block_id, fates in self.blocks.items():
            cells = [fates.get(pid, "") for pid in self.pids]
            if block_id in self.finished_unsaved():
                cells[0] = f"{fates[first]}, not saved"
            rows.append([block_id, *cells])
        return ["block", *(f"process {pid}" for pid in self.pids)], rows

    def _set(self, block_id: str, pid: int, fate: str) -> None:
        self.blocks.setdefault(block_id, {})[pid] = fate
