"""`keys new` and `keys list`: the keys that checkpoints are sealed with."""

import sys
from typing import TYPE_CHECKING

from workflows_mcp.cli.database import prepare_database
from workflows_mcp.cli.failures import UsageError
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, command_line
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.wiring import is_in_memory

if TYPE_CHECKING:
    from workflows_mcp.persistence.keys import KeyRing
    from workflows_mcp.persistence.seals import Seals
    from workflows_mcp.settings import Settings

__all__ = ["list_command", "new_command"]


async def new_command(*, id: str | None = None, options: Options = DEFAULT_OPTIONS) -> int:  # noqa: A002 - the option's name
    """Make a key. It stands alone on stdout: `(umask 077; workflows-mcp keys new > FILE)`.

    Args:
        id: What the key is called in every checkpoint that is sealed with it; by default the date and something random.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.persistence.keys import new_key

    try:
        key = new_key(id)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.json:
        print_json({"id": key.key_id, "entry": key.entry, "fingerprint": key.fingerprint})
        return 0
    sys.stdout.write(f"{key.entry}\n")
    sys.stdout.flush()
    say(
        f"the key {key.key_id}, fingerprint {key.fingerprint}: keep it where no backup of the database is; what is "
        "sealed with it is lost without it"
    )
    say(
        "it goes first in WORKFLOWS_ENCRYPTION_KEYS=new,old or in a file of WORKFLOWS_ENCRYPTION_KEY_FILE, one a line, "
        "for all processes that use the database; then: workflows-mcp checkpoints rekey"
    )
    return 0


async def list_command(*, options: Options = DEFAULT_OPTIONS) -> int:
    """List the keys of the settings, the newest first, and how many checkpoints each of them seals.

    The database's checkpoints are counted, without a deadline; none is read. A key that seals none, and is not the
    first, is not needed any more.

    Args:
        options: What every command takes.

    Returns:
        0; 1 when some are sealed with a key that the settings do not name.
    """
    from workflows_mcp.persistence.keys import load_keys

    settings = options.settings()
    keys = load_keys(settings)
    seals = await _count(settings)
    rows = _rows(keys, seals, seals_new=settings.encryption != "off")
    missing = any(row["use"] == "missing" for row in rows)
    if options.json:
        print_json({"keys": rows, "plain": None if seals is None else seals.plain})
        return int(missing)
    page = Page(sys.stdout)
    if rows:
        shown = [[str(value) if value is not None else "-" for value in row.values()] for row in rows]
        page.table(list(rows[0]), shown)
    else:
        page.line("There are no keys, and nothing is sealed; make one with: workflows-mcp keys new")
    if seals is not None and seals.plain and rows:
        rekey = command_line("checkpoints", "rekey", options=options)
        page.line(f"{seals.plain:,} checkpoints are in plain text; seal them with: {rekey}")
    return int(missing)


async def _count(settings: "Settings") -> "Seals | None":
    """How many checkpoints are sealed with what; None for a store in memory, which seals nothing."""
    from workflows_mcp.persistence.store import SQLAlchemyCheckpointStore

    if is_in_memory(settings):
        return None
    await prepare_database(settings, create=False)
    # What it counts does not depend on its keys, which may be what is wrong.
    bare = settings.model_copy(
        update={
            "encryption": "auto",
            "encryption_keys": None,
            "encryption_key_file": None,
            "encryption_key_command": None,
        }
    )
    async with SQLAlchemyCheckpointStore(settings.url, settings=bare) as store:
        return await store.count_seals()


def _rows(keys: "KeyRing | None", seals: "Seals | None", *, seals_new: bool) -> list[dict[str, object]]:
    """Each key with its use, its fingerprint and its number of checkpoints; those that are missing at the end."""
    counts = {} if seals is None else seals.by_key
    held = () if keys is None else keys.keys
    rows: list[dict[str, object]] = [
        {
            "id": key.key_id,
            "use": "seals and opens" if seals_new and key is held[0] else "opens",
            "fingerprint": key.fingerprint,
            "checkpoints": None if seals is None else counts.get(key.name, 0),
        }
        for key in held
    ]
    known = {key.name for key in held}
    rows += [
        {"id": name.key_id, "use": "missing", "fingerprint": name.fingerprint, "checkpoints": count}
        for name, count in counts.items()
        if name not in known
    ]
    return rows
