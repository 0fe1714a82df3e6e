"""Who takes part, by database and name. Their modules are imported where they run: each peer needs its own packages."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.contenders.base import Participant
from benchmarks.workloads import Action, Workload

__all__ = [
    "CONTENDERS",
    "OURS",
    "ContenderSpec",
    "MissingPackageError",
    "check_installed",
    "contenders_of",
    "load_contender",
]

OURS = "ours"

_RUNNING = frozenset({Action.RUN, Action.RUN_UNSAVED})
_KEEPING = frozenset(Action) - _RUNNING


@dataclass(frozen=True)
class ContenderSpec:
    """A contender by name.

    Attributes:
        database: `sqlite` or `postgresql`.
        name: Unique in its database; a command's option and a column's title.
        title: What it is, in a few words.
        place: Module and class.
        needs: Modules that must be installed.
        actions: What it is made for.
    """

    database: str
    name: str
    title: str
    place: str
    needs: tuple[str, ...] = ()
    actions: frozenset[Action] = _KEEPING

    def does(self, workload: Workload) -> bool:
        """Whether it takes part in a workload."""
        return workload.action in self.actions


class MissingPackageError(Exception):
    """A contender's packages are not installed; the message names the command that installs them."""


_LANGGRAPH = ("langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres", "psycopg", "psycopg_pool")
_DBOS_TITLE = "DBOS: async workflows and steps"
_OUR_TITLE = "workflows-mcp: SQLAlchemyCheckpointStore, and WorkflowExecutor over it"
_EVERYTHING = _KEEPING | _RUNNING
_DURABLE_RUNS = frozenset({Action.RUN})

CONTENDERS = (
    ContenderSpec("sqlite", OURS, _OUR_TITLE, "ours:OursSQLite", actions=_EVERYTHING),
    ContenderSpec("sqlite", "guide", "guide-style aiosqlite store, rollback journal", "guide:Guide"),
    ContenderSpec("sqlite", "guide-wal", "guide-style aiosqlite store, WAL", "guide:GuideWAL"),
    ContenderSpec("sqlite", "langgraph", "LangGraph AsyncSqliteSaver", "langgraph:LangGraphSQLite", _LANGGRAPH),
    ContenderSpec("sqlite", "sqlite3", "plain sqlite3, synchronous, one commit a save", "plain_sqlite:PlainSQLite"),
    ContenderSpec(
        "sqlite", "sqlite3-table", "the same on this project's table", "plain_sqlite:PlainSQLiteProductTable"
    ),
    ContenderSpec("sqlite", "dbos", _DBOS_TITLE, "dbos:DBOSSQLite", ("dbos",), _DURABLE_RUNS),
    ContenderSpec("postgresql", OURS, _OUR_TITLE, "ours:OursPostgreSQL", actions=_EVERYTHING),
    ContenderSpec("postgresql", "asyncpg-pool", "plain asyncpg, pool of 10", "plain_postgresql:AsyncpgPool"),
    ContenderSpec("postgresql", "asyncpg-held", "plain asyncpg, one held connection", "plain_postgresql:AsyncpgHeld"),
    ContenderSpec(
        "postgresql",
        "langgraph",
        "LangGraph AsyncPostgresSaver, its one connection",
        "langgraph:LangGraphPostgreSQL",
        _LANGGRAPH,
    ),
    ContenderSpec(
        "postgresql",
        "langgraph-pool",
        "LangGraph AsyncPostgresSaver, pool of 10",
        "langgraph:LangGraphPostgreSQLPool",
        _LANGGRAPH,
    ),
    ContenderSpec("postgresql", "dbos", _DBOS_TITLE, "dbos:DBOSPostgreSQL", ("dbos",), _DURABLE_RUNS),
)


def contenders_of(database: str) -> list[ContenderSpec]:
    """The contenders of a database, ours first."""
    return [spec for spec in CONTENDERS if spec.database == database]


def check_installed(specs: list[ContenderSpec], *, draws: bool = False) -> None:
    """See to it that what is needed is there.

    Args:
        specs: The contenders that take part.
        draws: Whether a chart is drawn.

    Raises:
        MissingPackageError: Something is not.
    """
    needed = {module for spec in specs for module in spec.needs} | ({"matplotlib"} if draws else set())
    missing = sorted(module for module in needed if not _is_installed(module))
    if missing:
        raise MissingPackageError(
            f"not installed: {', '.join(missing)}. Start the benchmark with `python3 run.py bench`, "
            "or install the dependency group `bench`"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def load_contender(spec: ContenderSpec) -> Participant:
    """Import a contender and make one, not opened yet."""
    module, name = spec.place.split(":")
    kind: Any = getattr(import_module(f"benchmarks.contenders.{module}"), name)
    contender: Participant = kind()
    return contender
