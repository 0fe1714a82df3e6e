"""An agent looks through what is stored, and deletes of it what nobody needs."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from mcp import MCPError

from tests.server.conversation import settings_of, talking
from workflows_mcp import CheckpointState
from workflows_mcp.testing import make_state


async def test_checkpoints_are_listed_page_by_page(tmp_path: Path, database_url: str) -> None:
    """The newest first; of a run, of a workflow, of a status; those that wait are those that still do."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        await call.ok("execute_workflow", workflow="greet", inputs={"who": "x"}, run_id="other")
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        history = await call.ok("list_checkpoints", run_id="one")
        ids = [row["checkpoint_id"] for row in history.data["checkpoints"]]
        assert ids[0] == asked.data["checkpoint_id"]
        assert [(row["status"], row["waits"], row["newest"]) for row in history.data["checkpoints"]] == [
            ("paused", True, True),
            ("running", False, False),
            ("running", False, False),
        ]
        assert f"- {ids[1]}: running (history), workflow approve, run one, 0 s ago" in history.text

        found: list[str] = []
        before = None
        while len(found) < 3:
            page = await call.ok("list_checkpoints", workflow_name="approve", limit=2, before=before)
            found += [row["checkpoint_id"] for row in page.data["checkpoints"]]
            before = page.data["next"]
        assert (found, before) == (ids, None)

        waiting = await call.ok("list_checkpoints", status="paused")
        assert [row["checkpoint_id"] for row in waiting.data["checkpoints"]] == ids[:1]
        assert "asks: Deploy?" in waiting.text
        await call.ok("resume_workflow", checkpoint_id=ids[0], response="yes")
        assert (await call.ok("list_checkpoints", status="paused")).text == "There are no paused checkpoints."
        assert (await call.ok("list_checkpoints", workflow_name="fail")).data == {"checkpoints": [], "next": None}
        assert "before takes what `next`" in await call.refused("list_checkpoints", before="1")
        assert "limit: Input should be greater" in await call.refused("list_checkpoints", limit=0)


async def test_what_is_known_of_a_checkpoint(tmp_path: Path) -> None:
    """Its place in its run, its question, its sizes, and what can be done with it; its state is a resource."""
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        checkpoint_id = asked.data["checkpoint_id"]
        said = await call.ok("get_checkpoint_info", checkpoint_id=checkpoint_id)
        assert (said.data["prompt"], said.data["choices"], said.data["paused_block"]) == (
            "Deploy?",
            ["yes", "no"],
            "ask",
        )
        assert (said.data["done"], said.data["to_do"]) == (["build"], ["ask", "deploy"])
        assert said.data["bytes"] > 100
        assert (said.data["error"], said.data["inputs"]) == (None, [])
        assert said.data["uri"] == f"checkpoint://{checkpoint_id}"
        assert "run one waits there for an answer" in said.data["needed"]
        assert f"resume_workflow with checkpoint_id={checkpoint_id!r} answers it; fork_run" in said.text

        ended = await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response="yes")
        old = await call.ok("get_checkpoint_info", checkpoint_id=checkpoint_id)
        assert (old.data["waits"], old.data["newest"], old.data["needed"]) == (False, False, None)
        assert "paused, and history: its run has gone on since" in old.text
        end = await call.ok("get_checkpoint_info", checkpoint_id=ended.data["checkpoint_id"])
        assert (end.data["status"], end.data["to_do"]) == ("completed", [])
        assert "fork_run" not in end.text
        assert "there is no checkpoint 'none'" in await call.refused("get_checkpoint_info", checkpoint_id="none")
        assert "1 to 512 bytes" in await call.refused("get_checkpoint_info", checkpoint_id="")


async def test_a_checkpoint_that_is_needed_is_not_deleted(tmp_path: Path, database_url: str) -> None:
    """Not before its run has ended; what is pinned is not deleted at all."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        checkpoint_id = asked.data["checkpoint_id"]
        refusal = await call.refused("delete_checkpoint", checkpoint_id=checkpoint_id)
        assert "run one waits there for an answer, and could not go on; cancel_run with run_id='one'" in refusal
        await call.ok("cancel_run", run_id="one")
        await call.services.store.pin_checkpoint(checkpoint_id)
        assert "it is pinned; whoever runs this server" in await call.refused(
            "delete_checkpoint", checkpoint_id=checkpoint_id
        )
        await call.services.store.pin_checkpoint(checkpoint_id, pinned=False)
        said = await call.ok("delete_checkpoint", checkpoint_id=checkpoint_id)
        assert (said.data["checkpoint_id"], said.data["run_id"]) == (checkpoint_id, "one")
        assert "there is no checkpoint" in await call.refused("delete_checkpoint", checkpoint_id=checkpoint_id)


async def test_the_end_of_a_run_is_the_last_of_it_that_can_be_deleted(tmp_path: Path, database_url: str) -> None:
    """By what came before it, the run would be at work for ever."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        ended = await call.ok("execute_workflow", workflow="greet", inputs={"who": "Ann"}, run_id="one")
        end = ended.data["checkpoint_id"]
        assert "one has come to" in (await call.ok("get_checkpoint_info", checkpoint_id=end)).data["needed"]
        refusal = await call.refused("delete_checkpoint", checkpoint_id=end)
        assert "earlier checkpoints of that run are still there; list_checkpoints with run_id='one' shows" in refusal
        assert (await call.ok("get_run", run_id="one")).data["status"] == "success"
        rows = (await call.ok("list_checkpoints", run_id="one")).data["checkpoints"]
        assert len(rows) > 1
        for row in reversed(rows):
            await call.ok("delete_checkpoint", checkpoint_id=row["checkpoint_id"])
        assert (await call.ok("list_runs")).data["runs"] == []


async def test_a_checkpoint_that_a_process_holds_is_not_deleted(tmp_path: Path) -> None:
    """Its run would be lost."""
    async with talking(settings_of(tmp_path)) as call:
        inputs = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
        begun = await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait=False)
        refusal = await call.refused("delete_checkpoint", checkpoint_id=begun.data["checkpoint_id"])
        assert "a process holds it until 20" in refusal
        (tmp_path / "gate").touch()
        assert (await call.ok("get_run", run_id="one", wait_seconds=20)).data["status"] == "success"


async def test_a_damaged_checkpoint_is_listed_and_can_be_deleted(tmp_path: Path, sqlite_template: Path) -> None:
    """What it holds cannot be told, and that is said; nothing of it is shown."""
    file = shutil.copy(sqlite_template, tmp_path / "damaged.db")
    async with talking(settings_of(tmp_path, str(file))) as call:
        await call.services.store.save_checkpoint(make_state("c1", run_id="r1", status="completed"))
        with contextlib.closing(sqlite3.connect(file)) as raw, raw:
            raw.execute("UPDATE checkpoints SET payload = CAST('no-payload' AS BLOB)")
        for tool, arguments in {"get_checkpoint_info": {"checkpoint_id": "c1"}, "get_run": {"run_id": "r1"}}.items():
            refusal = await call.refused(tool, **arguments)
            assert "'c1' is damaged" in refusal
            assert "tell your user, or whoever runs this server" in refusal
            assert "no-payload" not in refusal
        with pytest.raises(MCPError, match="'c1' is damaged"):
            await call.read("checkpoint://c1")
        assert [row["checkpoint_id"] for row in (await call.ok("list_checkpoints")).data["checkpoints"]] == ["c1"]
        await call.ok("delete_checkpoint", checkpoint_id="c1")
        assert (await call.ok("list_checkpoints")).data["checkpoints"] == []


async def test_what_the_database_holds_is_counted(tmp_path: Path, database_url: str) -> None:
    """Runs by how they stand, what waits, and each workflow's share."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        assert (await call.ok("get_checkpoint_stats")).data["checkpoints"] == 0
        await call.ok("execute_workflow", workflow="approve")
        await call.ok("execute_workflow", workflow="greet", inputs={"who": "x"})
        said = await call.ok("get_checkpoint_stats")
        assert (said.data["runs"], said.data["waiting"], said.data["abandoned"]) == (2, 1, 0)
        assert said.data["runs_by_status"]["completed"] == said.data["runs_by_status"]["paused"] == 1
        assert {one["workflow"]: one["waiting"] for one in said.data["workflows"]} == {"approve": 1, "greet": 0}
        assert said.data["oldest_waiting_seconds"] < 60
        assert said.data["stored_bytes"] == sum(one["stored_bytes"] for one in said.data["workflows"])
        assert said.data["json_bytes"] == sum(one["json_bytes"] for one in said.data["workflows"])
        assert "Runs: 2 (1 paused, 1 completed)." in said.text
        rows = (await call.ok("list_checkpoints")).data["checkpoints"]
        assert sum(row["bytes"] for row in rows) == said.data["json_bytes"]
        assert sum(row["stored_bytes"] for row in rows) == said.data["stored_bytes"]


async def test_what_another_program_saved_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    """It may hold anything where ours holds choices, blocks, and runs."""
    odd = make_state(
        "odd",
        created_at=float(2**60),
        status="paused",
        paused_block_id="b",
        pause_prompt="Who?",
        pause_metadata={"choices": [1, {}], "pattern": 7, "pending": ["next", 1]},
        execution_waves=[["a"], ["b"]],
        completed_blocks=["a"],
    )
    async with talking(settings_of(tmp_path)) as call:
        await call.services.store.save_checkpoint(odd)
        [row] = (await call.ok("list_checkpoints")).data["checkpoints"]
        assert (row["checkpoint_id"], row["run_id"], row["created"]) == ("odd", None, repr(odd.created_at))
        said = await call.ok("get_checkpoint_info", checkpoint_id="odd")
        assert (said.data["choices"], said.data["pattern"], said.data["asked_next"]) == (None, None, ["next"])
        assert (await call.ok("list_runs")).data["runs"] == []
        assert "cannot be continued" in await call.refused("fork_run", checkpoint_id="odd")


async def test_secrets_of_today_are_kept_out_of_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is told: in a list, on a page, in a resource."""
    async with talking(settings_of(tmp_path)) as call:
        await call.services.store.save_checkpoint(asking("the password is hunter2hunter2"))
        monkeypatch.setenv("WORKFLOW_SECRET_PASSWORD", "hunter2hunter2")
        for said in (
            await call.ok("list_checkpoints"),
            await call.ok("list_runs"),
            await call.ok("get_run", run_id="r1"),
            await call.ok("get_checkpoint_info", checkpoint_id="c1"),
        ):
            assert "the password is ***" in said.text
            assert "hunter2" not in said.text + repr(said.data)
        for uri in ("checkpoint://c1", "run://r1"):
            text = await call.read(uri)
            assert "the password is ***" in text
            assert "hunter2" not in text


def asking(prompt: str) -> CheckpointState:
    """A checkpoint that waits for an answer to a question."""
    return make_state(
        "c1",
        run_id="r1",
        status="paused",
        paused_block_id="b",
        pause_prompt=prompt,
        pause_metadata={"choices": [prompt]},
    )
