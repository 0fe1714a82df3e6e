"""The MCP server beside a bare one of the SDK's: how soon it answers, and what its calls cost."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.databases import open_databases
from benchmarks.mcp_calls import calls_table, measure_calls
from benchmarks.mcp_start import measure_starts, starts_table

__all__ = ["report"]


def report(names: Sequence[str], folder: Path | None, *, turns: int, calls: int, starts: bool) -> str:
    """Measure, and tell what was found.

    Args:
        names: The kinds of databases.
        folder: Where they are put; None: where the system keeps temporary files.
        turns: How many turns each server has.
        calls: How many calls there are in a turn.
        starts: Whether to measure starts, too.

    Raises:
        UnsafeServerError: A database server does not write what it acknowledges.
    """
    parts = []
    with tempfile.TemporaryDirectory(prefix="bench-mcp-", dir=folder) as made:
        place = Path(made)
        if starts:
            parts.append(starts_table(measure_starts(place, turns)))
        shares = []
        for name in names:
            with open_databases(name, folder) as opened:
                shares += measure_calls(opened, name, place, turns=turns, calls=calls)
        parts.append(calls_table(shares))
    return "\n\n".join(parts)
