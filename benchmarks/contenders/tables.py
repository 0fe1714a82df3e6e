"""The guide's table, which the plain contenders use, and how they ask it."""

__all__ = ["CLEANUP", "COLUMNS", "GUIDE_TABLE", "LIST", "LOAD", "TRIM"]

_INDEXES = tuple(
    f"CREATE INDEX IF NOT EXISTS idx_{column} ON checkpoints({column})"
    for column in ("workflow_name", "created_at", "is_paused")
)


def _table(time: str) -> str:
    return (
        "CREATE TABLE IF NOT EXISTS checkpoints (checkpoint_id TEXT PRIMARY KEY, workflow_name TEXT NOT NULL,"
        f" created_at {time} NOT NULL, is_paused BOOLEAN NOT NULL, checkpoint_data TEXT NOT NULL)"
    )


GUIDE_TABLE = {
    "sqlite": (_table("REAL"), *_INDEXES),
    "postgresql": (_table("DOUBLE PRECISION"), *_INDEXES),
}
"""The statements that make the table, by database."""

COLUMNS = ("checkpoint_id", "workflow_name", "created_at", "is_paused", "checkpoint_data")

LOAD = "SELECT checkpoint_data FROM checkpoints WHERE checkpoint_id = "

LIST = "SELECT checkpoint_id, workflow_name, created_at, is_paused FROM checkpoints ORDER BY created_at DESC"
"""The metadata alone: what a careful author of plain SQL would write."""

CLEANUP = "DELETE FROM checkpoints WHERE NOT is_paused AND created_at < "

TRIM = (
    "DELETE FROM checkpoints WHERE checkpoint_id IN (SELECT checkpoint_id FROM ("
    "SELECT checkpoint_id, row_number() OVER (PARTITION BY workflow_name ORDER BY created_at DESC, checkpoint_id DESC)"
    " AS place FROM checkpoints WHERE NOT is_paused) AS numbered WHERE place > "
)
"""One statement that numbers the rows of each workflow; what follows is the number to keep and a bracket."""
