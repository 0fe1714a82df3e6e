"""What is said to a connection to a SQLite file when it is opened."""

import random
import time

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from workflows_mcp.persistence.dialects.sqlite_errors import explain
from workflows_mcp.persistence.dialects.sqlite_file import SQLiteFile
from workflows_mcp.persistence.dialects.types import VERSION_TABLE
from workflows_mcp.settings import Settings

__all__ = ["BEGIN", "OPENED", "listen", "text_of"]

_PATIENT_WAL_SECONDS = 30.0
"""How long they try to turn a file to WAL that others have just opened, each in a thread of its own."""

BEGIN = "workflows_sqlite_begin"
"""Execution option that names how a transaction begins; without it, SQLAlchemy's begin emits nothing."""

OPENED = "workflows_sqlite_opened"
"""Where a pool's connection keeps what it has opened."""

_WANTS_WAL = """
    SELECT (SELECT journal_mode FROM pragma_journal_mode()) <> 'wal'
       AND (? AND NOT EXISTS (SELECT 1 FROM sqlite_schema)
            OR EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?))
"""
"""Whether a file is to be turned to WAL: it is not yet, and it has our schema, or is empty and about to get it."""


def listen(engine: Engine, file: SQLiteFile, settings: Settings, *, patient: bool = False) -> None:
    """Have the connections of an engine set up when they are opened, and its transactions begin as they are told to.

    Args:
        engine: One of our own.
        file: What it opens.
        settings: How durable commits are to be.
        patient: See `Dialect.create_engine`.
    """
    pragmas = (
        # Acknowledged means durable: in a simulated power cut FULL lost nothing, NORMAL at half of the cuts.
        f"PRAGMA synchronous = {settings.sqlite_synchronous}",
        # Damage is found when a page is read, not when it has spread.
        "PRAGMA cell_size_check = ON",
        # A schema that somebody tampered with must not run functions.
        "PRAGMA trusted_schema = OFF",
        # Off by default. What a delta is made against must stay as it is, whatever another process does.
        "PRAGMA foreign_keys = ON",
        # A burst of writes must not leave a large -wal file behind for good.
        "PRAGMA journal_size_limit = 67108864",
    )

    @event.listens_for(engine, "do_connect")
    def require_file(*_arguments: object) -> None:
        file.require()

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        # Somebody's text may be no UTF-8, which would make every listing fail that it is in.
        getattr(connection, "driver_connection", connection).text_factory = text_of
        cursor = connection.cursor()
        try:
            if patient:
                cursor.execute("PRAGMA page_count")
                if cursor.fetchall() == [(0,)]:
                    # Lets a file give back space in steps. Works only before the first page is written, which this
                    # does, or at a VACUUM; and takes the write lock even where it changes nothing.
                    cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
            # Asked for only where needed: setting it takes a lock, and 234 of 320 that just set it were BUSY.
            # And only in a file that is new or ours: nothing may change in one that is going to be refused.
            cursor.execute(_WANTS_WAL, (patient, VERSION_TABLE))
            if cursor.fetchall() == [(1,)]:
                _turn_to_wal(cursor, file.description, _PATIENT_WAL_SECONDS if patient else 0.0)
                # Opens the -wal file, which is then looked at.
                cursor.execute(_WANTS_WAL, (patient, VERSION_TABLE))
                cursor.fetchall()
            for pragma in pragmas:
                cursor.execute(pragma)
            entry.info[OPENED] = file.opened()
        except BaseException:
            connection.close()
            raise
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get(BEGIN)
        if mode is not None:
            connection.exec_driver_sql(f"BEGIN {mode}")


def _turn_to_wal(cursor: DBAPICursor, description: str, seconds: float) -> None:
    """Turn the file to WAL, again for so long as another process writes: SQLite waits for readers only."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            failure = explain(error, description)
            if failure is None or not failure.retriable or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - nothing secret about it
        else:
            return


def text_of(raw: bytes) -> str:
    """Text of a file; bytes that are no UTF-8 become lone surrogates, from which they can be told again."""
    return raw.decode("utf-8", "surrogateescape")
