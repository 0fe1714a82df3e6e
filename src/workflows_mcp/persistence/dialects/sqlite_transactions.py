"""Transactions on connections of somebody else's engine, which may have begun some, or left some open."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from workflows_mcp.errors import StoreConfigurationError

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["keeping_bases", "transaction"]


@asynccontextmanager
async def transaction(connection: AsyncConnection) -> AsyncIterator[None]:
    """A transaction that nobody else writes beside, on anybody's connection; all of it is done, or nothing.

    One that the engine has begun is the engine's to end. What is begun here ends here, too: in AUTOCOMMIT an engine may
    not roll back at all, and the next one who gets the connection would commit the half that was left.
    """
    driver = cast("aiosqlite.Connection", (await connection.get_raw_connection()).driver_connection)
    await _end_what_was_left_open(connection, driver)
    if driver.in_transaction:
        yield
        return
    try:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        await connection.exec_driver_sql("COMMIT")
    except BaseException:
        if not connection.invalidated:
            # Straight to the driver, behind whatever it is still doing for a caller who left.
            with suppress(sqlite3.Error, ValueError):  # there is no transaction, or no connection any more
                await driver.execute("ROLLBACK")
        raise


@asynccontextmanager
async def keeping_bases(connection: AsyncConnection, description: str) -> AsyncIterator[None]:
    """See `Dialect.keeping_bases`. SQLite's default is that they do not; an engine gets its own way back.

    Raises:
        StoreConfigurationError: They cannot be made to hold.
    """
    driver = cast("aiosqlite.Connection", (await connection.get_raw_connection()).driver_connection)
    await _end_what_was_left_open(connection, driver)
    if await _keys_hold(driver):
        yield
        return
    try:
        # What the engine has done in a transaction would be committed with ours.
        await _outside_of_transactions(driver, "PRAGMA foreign_keys = ON", ending="COMMIT")
        if not await _keys_hold(driver):
            raise StoreConfigurationError(
                f"foreign keys cannot be turned on for {description} over the engine that was passed in, and "
                "without them checkpoints would be lost; execute PRAGMA foreign_keys = ON when it connects, "
                "outside of a transaction"
            )
        yield
    finally:
        with suppress(sqlite3.Error, ValueError):  # there is no connection any more
            await _outside_of_transactions(driver, "PRAGMA foreign_keys = OFF", ending="ROLLBACK")


async def _end_what_was_left_open(connection: AsyncConnection, driver: "aiosqlite.Connection") -> None:
    """Roll back a transaction that an engine in AUTOCOMMIT did not begin: whoever had the connection before left it."""
    if driver.in_transaction and connection.sync_connection._is_autocommit_isolation():  # type: ignore[union-attr] # noqa: SLF001 - nothing public tells
        await driver.execute("ROLLBACK")


async def _keys_hold(driver: "aiosqlite.Connection") -> bool:
    """Whether a connection holds to foreign keys."""
    return any(row[0] for row in await driver.execute_fetchall("PRAGMA foreign_keys"))


async def _outside_of_transactions(driver: "aiosqlite.Connection", pragma: str, *, ending: str) -> None:
    """Set what SQLite leaves as it is, and says nothing, while a transaction is open.

    Some engines open one as soon as they connect, or hand out a connection: it is ended, and begun again.
    """
    is_open = driver.in_transaction
    if is_open:
        await driver.execute(ending)
    await driver.execute(pragma)
    if is_open:
        await driver.execute("BEGIN")
