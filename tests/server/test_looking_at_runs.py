"""An agent follows runs, ends them, and begins new ones where they were; whichever server they run on."""

import asyncio
from pathlib import Path

from tests.server.conversation import settings_of, talking, until
from workflows_mcp import WorkflowExecutor


async def test_a_list_of_runs_tells_where_each_stands(tmp_path: Path, database_url: str) -> None:
    """What it asks and where to answer it; a page at a time, by workflow and by status."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        for run_id, workflow in {"r1": "approve", "r2": "fail", "r3": "greet", "r4": "approve"}.items():
            inputs = {"who": "Ann"} if workflow == "greet" else {}
            await call.ok("execute_workflow", workflow=workflow, inputs=inputs, run_id=run_id)
        said = await call.ok("list_runs")
        assert [(run["run_id"], run["status"]) for run in said.data["runs"]] == [
            ("r4", "paused"),
            ("r3", "success"),
            ("r2", "failure"),
            ("r1", "paused"),
        ]
        newest = said.data["runs"][0]
        assert (newest["prompt"], newest["waves_done"], newest["workflow"]) == ("Deploy?", 1, "approve")
        assert 0 <= newest["age_seconds"] < 60
        assert f"- r4: paused, workflow approve, 0 s ago, checkpoint_id={newest['checkpoint_id']}, asks: Deploy?" in (
            said.text
        )
        assert [run["run_id"] for run in (await call.ok("list_runs", status="paused")).data["runs"]] == ["r4", "r1"]
        assert [run["run_id"] for run in (await call.ok("list_runs", workflow="fail")).data["runs"]] == ["r2"]

        first = await call.ok("list_runs", limit=3)
        assert f"call list_runs again with before={first.data['next']!r}" in first.text
        rest = await call.ok("list_runs", limit=3, before=first.data["next"])
        assert ([run["run_id"] for run in rest.data["runs"]], rest.data["next"]) == (["r1"], None)
        assert (await call.ok("list_runs", status="cancelled")).text == "There are no cancelled runs."
        assert "status: Input should be 'success', 'failure'" in await call.refused("list_runs", status="done")
        assert "limit: Input should be less than or equal to 200" in await call.refused("list_runs", limit=201)
        assert "before takes what `next`" in await call.refused("list_runs", before="yesterday")


async def test_a_run_whose_process_died_is_abandoned(tmp_path: Path) -> None:
    """It is told apart from one that is at work, and found among those that are."""
    gate = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
    async with talking(settings_of(tmp_path)) as call:
        other = WorkflowExecutor(call.services.store, library=call.services.library, lease_seconds=1000)
        await other.start_workflow("wait_for", gate, run_id="gone")
        await call.ok("execute_workflow", workflow="wait_for", inputs=gate, run_id="here", wait=False)
        await other.stop()
        by_id = {run["run_id"]: run["status"] for run in (await call.ok("list_runs")).data["runs"]}
        assert by_id == {"gone": "abandoned", "here": "running"}
        assert [run["run_id"] for run in (await call.ok("list_runs", status="abandoned")).data["runs"]] == ["gone"]
        both = (await call.ok("list_runs", status="running")).data["runs"]
        assert {run["run_id"] for run in both} == {"here", "gone"}
        page = await call.ok("get_run", run_id="gone")
        assert (page.data["status"], page.data["abandoned"]) == ("running", True)
        assert page.text.startswith(
            "interrupted: run gone of workflow 'wait_for'. Nobody works on it: its process died"
        )
        assert "takes it up again within about 5 s." in page.text
        assert "at work" not in page.text
        assert [block["status"] for block in page.data["blocks"]] == ["interrupted"]
        assert "- wait: interrupted\nWhat was interrupted runs again." in page.text
        (tmp_path / "gate").touch()
        await call.services.executor.wait_for_run("here", 10)


async def test_all_that_is_known_of_a_run(tmp_path: Path) -> None:
    """Its question and what it takes, what became of its blocks, and what to do next."""
    async with talking(settings_of(tmp_path)) as call:
        await call.ok("execute_workflow", workflow="approve", run_id="asks")
        asks = await call.ok("get_run", run_id="asks")
        assert (asks.data["status"], asks.data["prompt"], asks.data["choices"]) == ("paused", "Deploy?", ["yes", "no"])
        assert (asks.data["waves"], asks.data["waves_done"]) == (3, 1)
        blocks = [(one["path"], one["status"], one["wave"]) for one in asks.data["blocks"]]
        assert blocks == [("build", "succeeded", 1), ("ask", "paused", 2), ("deploy", "not begun", 3)]
        assert "1 of 3 waves are done. Blocks:\n- build: succeeded (" in asks.text
        assert "resume_workflow with checkpoint_id=" in asks.text

        await call.ok("execute_workflow", workflow="fail", run_id="failed")
        failed = await call.ok("get_run", run_id="failed")
        assert "block 'broken' failed" in failed.data["error"]
        assert "no such host" in failed.data["blocks"][0]["message"]
        assert "fork_run with checkpoint_id=" in failed.text

        assert "there is no run 'nobody'" in await call.refused("get_run", run_id="nobody")
        assert "run_id must have 1 to 512 bytes" in await call.refused("get_run", run_id="x" * 600)
        assert "there is no parameter 'id'" in await call.refused("get_run", id="asks")


async def test_a_run_can_be_waited_for(tmp_path: Path) -> None:
    """Up to a time; it is told at once when it is over."""
    async with talking(settings_of(tmp_path)) as call:
        inputs = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
        await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait=False)
        running = await call.ok("get_run", run_id="one", wait_seconds=0.05)
        assert (running.data["status"], running.data["abandoned"]) == ("running", False)
        waiting = asyncio.create_task(call.ok("get_run", run_id="one", wait_seconds=60))
        (tmp_path / "gate").touch()
        async with asyncio.timeout(20):
            done = await waiting
        assert (done.data["status"], done.data["outputs"]) == ("success", {"done": True})
        assert "wait_seconds: Input should be" in await call.refused("get_run", run_id="one", wait_seconds=-1)


async def test_what_only_another_server_knows_is_not_told_as_not_begun(tmp_path: Path) -> None:
    """Its block is at work, and nothing of that is saved yet."""
    gate = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
    async with talking(settings_of(tmp_path)) as call:
        other = WorkflowExecutor(call.services.store, library=call.services.library, lease_seconds=1000)
        await other.start_workflow("wait_for", gate, run_id="there")
        page = await call.ok("get_run", run_id="there")
        assert page.text.startswith("running: run there of workflow 'wait_for' is at work.")
        assert [block["status"] for block in page.data["blocks"]] == ["may have begun"]
        assert "- wait: may have begun\nOf what may have begun, the server knows that works on the run" in page.text
        (tmp_path / "gate").touch()
        await other.wait_for_run("there", 10)


async def test_a_run_can_be_cancelled_once(tmp_path: Path) -> None:
    """Its blocks are stopped; one that is over stays what it is."""
    async with talking(settings_of(tmp_path)) as call:
        mark = tmp_path / "mark"
        inputs = {"gate": str(tmp_path / "gate"), "mark": str(mark)}
        await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait=False)
        await asyncio.wait_for(until(mark.exists), 20)
        said = await call.ok("cancel_run", run_id="one")
        assert (said.data["status"], said.data["workflow"]) == ("cancelled", "wait_for")
        assert (await call.ok("cancel_run", run_id="one")).data["status"] == "cancelled"
        assert (await call.ok("get_run", run_id="one")).data["status"] == "cancelled"

        await call.ok("execute_workflow", workflow="greet", inputs={"who": "x"}, run_id="over")
        over = await call.ok("cancel_run", run_id="over")
        assert over.data["status"] == "success"
        assert over.text.startswith("It was over before")
        assert "list_runs shows" in await call.refused("cancel_run", run_id="nobody")


async def test_a_fork_has_no_inputs_that_nobody_was_asked_about(tmp_path: Path) -> None:
    """Whoever approves a command has seen it, and no other one runs instead."""
    async with talking(settings_of(tmp_path)) as call:
        safe, other = {"command": "echo safe"}, {"command": f"touch {tmp_path / 'mark'}"}
        asked = await call.ok("execute_workflow", workflow="guarded-command", inputs=safe, run_id="g")
        anew = await call.ok("fork_run", checkpoint_id=asked.data["checkpoint_id"], inputs=other)
        assert anew.data["prompt"] == f'Do you approve this? Run this command: "{other["command"]}"'
        await call.ok("resume_workflow", checkpoint_id=asked.data["checkpoint_id"], response="approve")
        saved = (await call.ok("list_checkpoints", run_id="g", status="running")).data["checkpoints"]
        answered = saved[0]["checkpoint_id"]
        refusal = await call.refused("fork_run", checkpoint_id=answered, inputs=other)
        assert f"checkpoint {answered!r} holds an answer to a question of block 'approval'" in refusal
        assert "begin a new run" in refusal
        assert (await call.ok("fork_run", checkpoint_id=answered, inputs=safe)).data["outputs"]["stdout"] == "safe\n"
        assert not (tmp_path / "mark").exists()


async def test_a_new_run_begins_where_another_one_was(tmp_path: Path) -> None:
    """With what was done by then, and with other inputs; asking twice with one name begins one run."""
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        checkpoint_id = asked.data["checkpoint_id"]
        await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response="no")
        forked = await call.ok("fork_run", checkpoint_id=checkpoint_id, run_id="two")
        assert (forked.data["status"], forked.data["run_id"], forked.data["prompt"]) == ("paused", "two", "Deploy?")
        again = await call.ok("fork_run", checkpoint_id=checkpoint_id, run_id="two")
        assert again.data["checkpoint_id"] == forked.data["checkpoint_id"]
        await call.ok("resume_workflow", checkpoint_id=forked.data["checkpoint_id"], response="yes")
        again = await call.ok("fork_run", checkpoint_id=checkpoint_id, run_id="two")
        assert again.data["status"] == "success"
        other = await call.ok("execute_workflow", workflow="approve", run_id="three")
        assert other.data["status"] == "paused"
        taken = await call.refused("fork_run", checkpoint_id=checkpoint_id, run_id="three")
        assert f"run 'three' is there already, and was not forked from checkpoint {checkpoint_id!r}" in taken
        page = await call.ok("get_run", run_id="two")
        assert page.data["forked_from"] == checkpoint_id

        background = await call.ok("fork_run", checkpoint_id=checkpoint_id, wait=False)
        assert background.data["status"] in {"running", "paused"}
        [end] = (await call.ok("list_checkpoints", run_id="one", status="completed")).data["checkpoints"]
        refusal = await call.refused("fork_run", checkpoint_id=end["checkpoint_id"])
        assert "the end of a run that succeeded" in refusal
        assert "list_checkpoints with run_id='one'" in refusal
        assert "there is no checkpoint 'none'" in await call.refused("fork_run", checkpoint_id="none")
        wrong = await call.refused("fork_run", checkpoint_id=checkpoint_id, inputs={"nope": 1})
        assert "nope" in wrong
