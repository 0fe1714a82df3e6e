"""Clocks that a harness may set: each stands for the clock of one machine, whose processes all go by it.

A process takes its time from `time.time`. SQLite takes it from the machine's clock, so that its `julianday` goes with
the process's here; PostgreSQL from its own machine's, whose `clock_timestamp` and `statement_timestamp` stand in a
schema that is searched before the server's own.
"""

import mmap
import struct
import time
from pathlib import Path

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, Pool

__all__ = ["HOUR", "TEN_YEARS", "Clock", "ServerClock"]

HOUR = 3600.0
TEN_YEARS = 10 * 365.25 * 86400.0

_true_time = time.time
_EPOCH_IN_JULIAN_DAYS = 2440587.5


class Clock:
    """The clock of a machine.

    Args:
        file: By which the machine's processes share it; made if need be.
    """

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(struct.pack("d", 0.0))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), 8)
        self._stands_at: float | None = None

    @property
    def is_off_by(self) -> float:
        """How far it is ahead, in seconds."""
        return float(struct.unpack("d", self._shared)[0])

    def set(self, seconds_ahead: float) -> None:
        """Set it, for all processes of the machine."""
        self._stands_at = None
        self._shared[:] = struct.pack("d", seconds_ahead)

    def stop(self) -> None:
        """Let it stand still until it is set, for this process."""
        self._stands_at = self.time()

    def time(self) -> float:
        """What it shows, in Unix seconds."""
        return _true_time() + self.is_off_by if self._stands_at is None else self._stands_at

    def install(self) -> None:
        """Have this process go by it, for good: what is opened from now on, too."""
        time.time = self.time

        def julianday(_now: str) -> float:
            return round(self.time(), 3) / 86400.0 + _EPOCH_IN_JULIAN_DAYS

        @event.listens_for(Pool, "connect")
        def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
            if hasattr(connection, "create_function"):
                connection.create_function("julianday", 1, julianday)


class ServerClock:
    """The clock of a PostgreSQL server's machine, as one database sees it.

    Args:
        connection: To the database.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def install(self) -> None:
        """Have all connections go by it that are opened from now on."""
        await self._connection.execute(
            """
            CREATE SCHEMA fault;
            CREATE TABLE fault.clock (seconds_ahead float8 NOT NULL);
            INSERT INTO fault.clock VALUES (0);
            CREATE FUNCTION fault.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS
                'SELECT pg_catalog.clock_timestamp() + (SELECT seconds_ahead FROM fault.clock) * interval ''1 s''';
            CREATE FUNCTION fault.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS
                'SELECT pg_catalog.statement_timestamp() + (SELECT seconds_ahead FROM fault.clock) * interval ''1 s''';
            DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET search_path = public, fault, pg_catalog', current_database());
            END $$;
            """
        )

    async def set(self, seconds_ahead: float) -> None:
        """Set it."""
        await self._connection.execute("UPDATE fault.clock SET seconds_ahead = $1", seconds_ahead)
