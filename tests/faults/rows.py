"""The rows of the table, in its order."""

from importlib import import_module

from tests.faults.row import Row

__all__ = ["ROWS", "row_named"]

_MODULES = (
    "writer_killed",
    "power_cut",
    "server_crash",
    "failover",
    "server_frozen",
    "lock_held",
    "writers",
    "cancel_storm",
    "connections",
    "pgbouncer",
    "disk_full",
    "damaged_file",
    "fork",
    "clock",
    "upgrade",
    "maintenance",
    "deletions",
    "rekeyed",
    "model",
    "history",
    "hostile_rows",
    "hostile_values",
    "filters",
    "leaks",
    "executors_killed",
    "answers",
    "worker_killed",
    "mcp_servers",
)

ROWS: tuple[Row, ...] = tuple(import_module(f"tests.faults.{name}").ROW for name in _MODULES)


def row_named(fault: str) -> Row:
    """The row of a fault.

    Raises:
        ValueError: There is none.
    """
    for row in ROWS:
        if row.fault == fault:
            return row
    raise ValueError(f"there is no row {fault!r}; there are: {', '.join(row.fault for row in ROWS)}")
