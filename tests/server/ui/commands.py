"""What the pages tell people to type does in a terminal what it says, and with the same database.

Run by name, as `.ci/run` does: it takes long.
"""

import html
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from tests.faults.crew import fork, join
from tests.server.http.served import browser
from tests.server.started import start_ui
from tests.server.ui.visiting import run_workflow
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.server.ui.paths import path_to

PAUSED, FAILED, LEFT = "-r 1", "--failed", "--left"
"""Ids that look like options; `LEFT` is of a run whose process is gone."""

COMMANDS = {"cancel", "diff", "doctor", "fork", "list", "recover", "resume", "run", "show", "stats"}
"""The last word of each that pages tell."""


async def _leave(file: Path) -> str:
    """A run that nobody holds any more, where the one that waits was at its beginning; its checkpoint."""
    async with SQLAlchemyCheckpointStore(file) as store:
        first = (await store.list_checkpoints(run_id=PAUSED))[-1]
        state = await store.load_checkpoint(first.checkpoint_id)
        assert state is not None
        await store.save_checkpoint(replace(state, checkpoint_id="-left", run_id=LEFT), owner="me", lease_seconds=60)
        await store.release_claim("-left", "me")
    return "-left"


def _type(lines: list[str], folder: Path, database: Path, codes: Path) -> None:
    """Type each in a folder where nothing else leads to the database, which is as it was, and note what it comes to."""
    from workflows_mcp.cli.entry import run_command_line

    os.chdir(folder)
    os.environ.clear()
    os.environ["HOME"] = str(folder)
    before = database.read_bytes()
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - open to the end
    with (folder / "said").open("w") as said:
        sys.stdout = sys.stderr = said
        for line in lines:
            words = shlex.split(line)[1:]
            if words[0] == "resume":  # asks at a terminal
                words[1:1] = ["--response", "yes"]
            for file in database.parent.glob(f"{database.name}-*"):
                file.unlink()
            database.write_bytes(before)
            code = run_command_line(words)
            codes.write_text(f"{codes.read_text()}{code} {line}\n")


async def test_every_command_does_what_it_says_with_the_same_database(tmp_path: Path) -> None:
    """Of each page, also where ids look like options, in a shell whose environment names no database."""
    database, elsewhere = tmp_path / "my runs.db", tmp_path / "elsewhere"
    elsewhere.mkdir()
    await upgrade_schema(database)
    server = await start_ui(tmp_path, {"WORKFLOWS_DATABASE_URL": database.name})
    pages = []
    try:
        async with browser() as visitor:
            pages.append(await visitor.get(f"{server.origin}/ui"))
            asked = (await run_workflow(database, tmp_path, "approve", PAUSED)).checkpoint_id
            failed = (await run_workflow(database, tmp_path, "fail", FAILED)).checkpoint_id
            left = await _leave(database)
            paths = [
                *(path_to("run", id=one) for one in (PAUSED, FAILED, LEFT)),
                *(path_to(page, checkpoint=one) for page in ("state", "fork") for one in (asked, left)),
                path_to("diff", a=asked),
                path_to("diff", a=left, b=asked),
                path_to("answer", checkpoint=asked),
                path_to("waiting"),
            ]
            pages += [await visitor.get(f"{server.origin}{path}") for path in paths]
            parts = [f"{server.origin}{path_to(f'health/{part}')}" for part in ("checks", "figures")]
            pages += [await visitor.get(part, headers={"hx-request": "true"}) for part in parts]
        assert [page.status_code for page in pages] == [200] * len(pages)
    finally:
        assert await server.stop() == 0
    # Wherever one stands: in a text, too.
    told = {html.unescape(one) for page in pages for one in re.findall(r'workflows-mcp [^<"]+', page.text)}
    lines = sorted(told)
    assert {next(one for one in reversed(shlex.split(line)[1:3]) if one in COMMANDS) for line in lines} == COMMANDS
    codes = tmp_path / "codes"
    codes.touch()
    assert await join(fork(_type, lines, elsewhere, database, codes)) == 0
    fails = f"runs fork {failed} "  # again
    expected = "".join(f"{int(fails in line)} {line}\n" for line in lines)
    wrong = set(codes.read_text().splitlines()) ^ set(expected.splitlines())
    assert not wrong, [one for one in (elsewhere / "said").read_text().splitlines() if one.startswith("error")]
    assert not list(elsewhere.rglob("*.db")), "none made a database of its own"
