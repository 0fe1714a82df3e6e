"""`db upgrade`, `downgrade`, `current`, `check`: the schema of a database."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.asking import confirm
from workflows_mcp.cli.database import open_schema
from workflows_mcp.cli.failures import one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import print_json
from workflows_mcp.persistence.sizes import brief_bytes

if TYPE_CHECKING:
    from workflows_mcp.persistence.schema import SchemaManager

__all__ = ["check_command", "current_command", "downgrade_command", "upgrade_command"]


async def upgrade_command(revision: str = "head", /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Bring the schema up to date. Stop all processes of an older version first, also those that only delete.

    Creates a SQLite file that is missing; keeps what is stored.

    Args:
        revision: The revision to go to.
        options: What every command takes.

    Returns:
        0.
    """
    schema = open_schema(options.settings())
    before = None if schema.is_new else await schema.current()
    await schema.upgrade(revision)
    await _tell(schema, options, before)
    return 0


def downgrade_command(
    revision: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    drop_data: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Bring the schema down to an earlier revision. Stop all processes first.

    Asks first where its table has no place for what is stored.

    Args:
        revision: An earlier revision, or `base`: no schema at all.
        yes: Do not ask first.
        drop_data: Let `base` drop a table that holds checkpoints.
        options: What every command takes.

    Returns:
        0.
    """
    schema = open_schema(options.settings())
    cut_off, (deltas, plain_bytes) = asyncio.run(_look(schema, revision))
    warnings = []
    if cut_off:
        warnings.append(
            f"{cut_off:,} checkpoints in {schema.description} belong to runs, for whose ids and statuses the table of "
            f"revision {revision} has no place: these runs can never be continued, and their ids no longer keep them "
            "from running twice."
        )
    if deltas:
        warnings.append(
            f"{deltas:,} checkpoints in {schema.description} are stored as deltas, which revision {revision} does not "
            f"know: each is written out as a whole state, {brief_bytes(plain_bytes)} as plain JSON, and about a third "
            "of that as they are stored then. Going up again does not make them deltas; workflows-mcp checkpoints copy "
            "into a new database does."
        )
    if warnings:
        confirm(" ".join(warnings), yes=yes, options=options)
    asyncio.run(_downgrade(schema, revision, options, drop_data=drop_data))
    return 0


async def _look(schema: "SchemaManager", revision: str) -> tuple[int, tuple[int, int]]:
    return await schema.count_cut_off(revision), await schema.measure_deltas(revision)


async def _downgrade(schema: "SchemaManager", revision: str, options: Options, *, drop_data: bool) -> None:
    before = await schema.current()
    await schema.downgrade(revision, drop_data=drop_data)
    await _tell(schema, options, before)


async def current_command(*, options: Options = DEFAULT_OPTIONS) -> int:
    """Show the revision that a database is at.

    Args:
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.persistence.revisions import HEAD

    schema = open_schema(options.settings())
    current = await schema.current()
    if options.json:
        print_json({"database": schema.description, "revision": current, "head": HEAD})
        return 0
    note = "" if current == HEAD else f" (the newest is {HEAD}; see: workflows-mcp db upgrade --help)"
    sys.stdout.write(f"{schema.description} is at {_revision(current)}{note}\n")
    return 0


async def check_command(*, options: Options = DEFAULT_OPTIONS) -> int:
    """Make sure that a database is at the newest revision, and its table as the revisions make it.

    Args:
        options: What every command takes.

    Returns:
        0. Anything else than a schema in order is an error.
    """
    from workflows_mcp.persistence.revisions import HEAD

    schema = open_schema(options.settings())
    await schema.check()
    if options.json:
        print_json({"database": schema.description, "revision": HEAD, "head": HEAD})
    else:
        sys.stdout.write(f"{schema.description} is in order, at revision {HEAD}\n")
    return 0


async def _tell(schema: "SchemaManager", options: Options, before: str | None) -> None:
    """Tell where the schema was, and where it is now."""
    current = await schema.current()
    if options.json:
        print_json({"database": schema.description, "revision": current, "previous": before})
        return
    was = "as before" if current == before else f"before: {_revision(before)}"
    sys.stdout.write(f"{schema.description} is at {_revision(current)} ({was})\n")


def _revision(revision: str | None) -> str:
    return "no revision of ours" if revision is None else one_line(f"revision {revision}")
