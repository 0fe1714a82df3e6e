"""Databases as other programs see them: without anything of the product's."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import asyncpg

GUIDE_DDL = (
    """CREATE TABLE IF NOT EXISTS checkpoints (
        checkpoint_id TEXT PRIMARY KEY,
        workflow_name TEXT NOT NULL,
        created_at REAL NOT NULL,
        is_paused BOOLEAN NOT NULL,
        checkpoint_data TEXT NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS idx_workflow_name ON checkpoints(workflow_name)",
    "CREATE INDEX IF NOT EXISTS idx_created_at ON checkpoints(created_at)",
    "CREATE INDEX IF NOT EXISTS idx_is_paused ON checkpoints(is_paused)",
)
"""What a reader of the guide has run."""

Rows = Sequence[Sequence[Any]]


def is_postgres(url: str) -> bool:
    """Whether a URL is PostgreSQL's; else it is a SQLite file's path."""
    return url.startswith("postgresql:")


async def execute(url: str, *statements: str) -> None:
    """Run statements, each on its own."""
    if is_postgres(url):
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()
        return
    with closing(sqlite3.connect(url)) as file, file:
        for statement in statements:
            file.execute(statement)


async def fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    if is_postgres(url):
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
    with closing(sqlite3.connect(url)) as file:
        return file.execute(statement).fetchall()


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """While somebody else holds a lock that lets nobody write, and on PostgreSQL nobody read."""
    if is_postgres(url):
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE checkpoints")
                yield
        finally:
            await connection.close()
        return
    with closing(sqlite3.connect(url, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


async def insert(url: str, rows: Rows, columns: int = 5) -> None:
    """Insert rows into the checkpoints table."""
    if is_postgres(url):
        connection = await asyncpg.connect(url)
        try:
            places = ", ".join(f"${number}" for number in range(1, columns + 1))
            await connection.executemany(f"INSERT INTO checkpoints VALUES ({places})", rows)
        finally:
            await connection.close()
        return
    with closing(sqlite3.connect(url)) as file, file:
        file.executemany(f"INSERT INTO checkpoints VALUES ({', '.join('?' * columns)})", rows)


async def make_guide_database(url: str, rows: Rows = ()) -> None:
    """What somebody who followed the guide has on disk."""
    await execute(url, *GUIDE_DDL)
    await insert(url, rows)


async def table_names(url: str) -> list[str]:
    """The names of all tables and indexes."""
    names = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        if is_postgres(url)
        else "SELECT name FROM sqlite_schema ORDER BY 1"
    )
    return [name for (name,) in await fetch(url, names)]


async def contents(url: str) -> dict[str, Any]:
    """All that a database holds: its tables' and indexes' names, and the rows of the checkpoints table."""
    return {
        "names": await table_names(url),
        "rows": sorted(await fetch(url, "SELECT * FROM checkpoints"), key=str),
    }
