"""`db backup`, `db restore` and `db vacuum`."""

import asyncio
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from workflows_mcp.cli.database import open_schema, open_store
from workflows_mcp.cli.failures import EXIT_ERROR, InterruptedRunError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.progress import busy, progress
from workflows_mcp.cli.signals import cancelled_by_signals
from workflows_mcp.persistence.sizes import shown_bytes
from workflows_mcp.wiring import is_in_memory

if TYPE_CHECKING:
    from workflows_mcp.persistence.copies import Copy
    from workflows_mcp.persistence.dialects import Dialect

__all__ = ["backup_command", "restore_command", "vacuum_command"]

_File = Annotated[Path, Parameter(name="FILE")]


async def backup_command(
    file: _File,
    /,
    *,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Back up the database into a file, while others use it; on PostgreSQL, say with which command to do so.

    The file is one that nobody but you may read, and is whole as soon as it has its name: it was read back before.

    Args:
        file: Where to put the backup.
        overwrite: Replace a file of that name; the old one stays until the new one is whole.
        options: What every command takes.

    Returns:
        0: it is backed up. 1 when it is not: on PostgreSQL the command was printed, and nothing was run.
    """
    from workflows_mcp.persistence.backup import backup_database

    dialect = _dialect(options)
    commands = dialect.backup_commands(file)
    if commands:
        return _tell_commands(dialect, "back it up", commands, options)
    with progress("bytes", "backed up") as told:
        on_copied = functools.partial(told, "backed up")
        copied = await _or_interrupted(
            backup_database(_url(options), file, overwrite=overwrite, on_copied=on_copied), "no backup was made"
        )
    if options.json:
        print_json({**_as_data(copied), "ran": True})
        return 0
    Page(sys.stdout).line(one_line(f"backed up: {_in_short(copied)}, in {copied.file}"))
    return 0


async def restore_command(file: _File, /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Put a backup in the place of the database, which no process may use; on PostgreSQL, say with which commands.

    The backup is examined first, and stays as it is. The database that was there is kept beside the new one.

    Args:
        file: The backup.
        options: What every command takes.

    Returns:
        0: it is restored. 1 when it is not: on PostgreSQL the commands were printed, and nothing was run.
    """
    from workflows_mcp.persistence.backup import restore_database

    dialect = _dialect(options)
    commands = dialect.restore_commands(file)
    if commands:
        return _tell_commands(dialect, "restore a backup into a new database", commands, options)
    with progress("bytes", "restored") as told:
        on_copied = functools.partial(told, "restored")
        restored = await _or_interrupted(
            restore_database(_url(options), file, on_copied=on_copied), "nothing was restored"
        )
    if options.json:
        kept = None if restored.kept is None else str(restored.kept)
        print_json({**_as_data(restored), "ran": True, "kept": kept, "is_certain": restored.is_certain})
        return 0
    _tell_restored(restored, options)
    return 0


async def vacuum_command(*, options: Options = DEFAULT_OPTIONS) -> int:
    """Give back the space of what was deleted; a SQLite file then holds nothing of it any more.

    Saves have to wait meanwhile on SQLite: 0.6 s for 400 MB, half of it deleted.

    Args:
        options: What every command takes.

    Returns:
        0.
    """
    async with open_store(options) as store:
        before = (await store.get_stats()).database_bytes
        with busy("giving back space"):
            await store.vacuum()
        after = (await store.get_stats()).database_bytes
    if options.json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        gained = f"{shown_bytes(before - after)} less" if after < before else "no less than before"
        Page(sys.stdout).line(f"vacuumed: the database takes up {shown_bytes(after)}, {gained}")
    return 0


def _dialect(options: Options) -> "Dialect":
    from workflows_mcp.persistence.dialects import dialect_for

    settings = options.settings()
    if is_in_memory(settings) or settings.uses_default_path:
        open_schema(settings)  # refuses the one, and prints the path of the other
    return dialect_for(settings.url, settings)


def _url(options: Options) -> str:
    return options.settings().url


async def _or_interrupted(work: Any, what: str) -> "Copy":  # noqa: ANN401 - a coroutine of a copy
    try:
        with cancelled_by_signals():
            copy: Copy = await work
    except asyncio.CancelledError:
        raise InterruptedRunError(f"{what}, and nothing was changed") from None
    return copy


def _tell_commands(dialect: "Dialect", what: str, commands: list[str], options: Options) -> int:
    if options.json:
        print_json({"database": dialect.description, "ran": False, "commands": commands})
        return EXIT_ERROR  # a script that counts on it must not go on
    out = Page(sys.stdout)
    out.line(f"Nothing was run. {dialect.description}: PostgreSQL's own programs {what}:")
    out.line()
    for command in commands:
        out.line(f"  {command}")
    out.line()
    out.line(
        "Run them as the owner of the tables. They ask for a password, or find it in PGPASSWORD or ~/.pgpass; their"
    )
    out.line(
        "version must not be older than the server's. What `db grants` gave to roles is not in a backup: run its SQL"
    )
    out.line("on a new database before programs use that.")
    return EXIT_ERROR


def _tell_restored(restored: "Copy", options: Options) -> None:
    from workflows_mcp.persistence.revisions import HEAD

    out = Page(sys.stdout)
    out.line(one_line(f"restored: {_in_short(restored)}, to {restored.file}"))
    if restored.kept is not None:
        out.line(one_line(f"What was there is kept in {restored.kept}: delete it when all is well."))
    if not restored.is_certain:
        out.line("Whether a process still has it open could not be told here: start all of them anew.")
    if restored.revision != HEAD:
        out.line("It is of an earlier version; bring it up to date before it is used:")
        out.line(f"  {command_line('db', 'upgrade', options=options)}")


def _in_short(copy: "Copy") -> str:
    revision = "no revision of ours yet" if copy.revision is None else f"revision {copy.revision}"
    return f"{copy.checkpoints:,} checkpoints at {revision}, {shown_bytes(copy.size)}"


def _as_data(copy: "Copy") -> dict[str, Any]:
    return {
        "file": str(copy.file),
        "bytes": copy.size,
        "checkpoints": copy.checkpoints,
        "revision": copy.revision,
    }
