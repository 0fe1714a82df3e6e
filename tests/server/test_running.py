"""An agent runs workflows by tools: at once or in the background, once or safely twice, by name or as YAML."""

import asyncio
import json
from pathlib import Path

import pytest
from mcp import MCPError

from tests.server.conversation import MODES, WORKFLOWS, Mode, settings_of, talking, until


@pytest.mark.parametrize("mode", MODES)
async def test_a_workflow_runs_and_tells_its_outputs(tmp_path: Path, mode: Mode) -> None:
    """To programs as data, to a model as text."""
    async with talking(settings_of(tmp_path), mode) as call:
        said = await call.ok("execute_workflow", workflow="greet", inputs={"who": "Ann"})
    assert said.data["status"] == "success"
    assert said.data["workflow"] == "greet"
    assert said.data["outputs"] == {"said": "hello Ann"}
    assert said.text.startswith(f"success: run {said.data['run_id']} of workflow 'greet'")
    assert '"said": "hello Ann"' in said.text


async def test_a_run_that_asks_tells_all_that_its_answer_takes(tmp_path: Path, database_url: str) -> None:
    """And what to do next; the answer is then given by a tool, and the run goes on to its end."""
    async with talking(settings_of(tmp_path, database_url)) as call:
        asked = await call.ok("execute_workflow", workflow="approve")
        assert (asked.data["status"], asked.data["prompt"]) == ("paused", "Deploy?")
        assert asked.data["choices"] == ["yes", "no"]
        assert 'one of: "yes", "no"' in asked.text
        checkpoint_id = asked.data["checkpoint_id"]
        assert 'ask your user, and do not answer in their place. Then call resume_workflow with checkpoint_id="' in (
            asked.text
        )
        ended = await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response=" YES ")
        assert ended.data["outputs"] == {"answer": "yes"}
        assert (ended.data["run_id"], ended.data["workflow"]) == (asked.data["run_id"], "approve")
        again = await call.refused("resume_workflow", checkpoint_id=checkpoint_id, response="no")
        assert "answered already" in again
        assert f'get_run with run_id="{ended.data["run_id"]}"' in again


async def test_a_run_goes_on_with_its_workflow_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    """As it was, unless it is asked for otherwise."""
    async with talking(settings_of(tmp_path)) as call:
        asked = [await call.ok("execute_workflow", workflow="anything") for _ in range(2)]
        text = WORKFLOWS["anything"].replace("said:", "heard:")
        (tmp_path / "library" / "anything.yaml").write_text(f"name: anything\n{text}")
        saved, current = (one.data["checkpoint_id"] for one in asked)
        ended = await call.ok("resume_workflow", checkpoint_id=saved, response="a")
        assert ended.data["outputs"] == {"said": "a"}
        ended = await call.ok(
            "resume_workflow", checkpoint_id=current, response="b", definition="current", wait_seconds=30
        )
        assert ended.data["outputs"] == {"heard": "b"}
        refusal = await call.refused("resume_workflow", checkpoint_id=current, response="b", definition="newest")
        assert "definition: " in refusal


async def test_a_run_that_fails_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    """It is an answer, and no error of the tool."""
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("execute_workflow", workflow="fail")
    assert said.data["status"] == "failure"
    assert "broken" in said.data["error"]
    assert "no such host" in said.text
    assert f'fork_run with checkpoint_id="{said.data["checkpoint_id"]}"' in said.text


async def test_a_run_goes_on_in_the_background(tmp_path: Path) -> None:
    """When nobody is to wait for it, or only for a while."""
    inputs = {"gate": str(tmp_path / "gate"), "mark": str(tmp_path / "mark")}
    async with talking(settings_of(tmp_path)) as call:
        begun = await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait=False)
        assert (begun.data["status"], begun.data["run_id"]) == ("running", "one")
        assert 'get_run with run_id="one"' in begun.text
        same = await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait_seconds=0.05)
        assert same.data["status"] == "running"
        (tmp_path / "gate").touch()
        done = await call.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait_seconds=30)
        assert (done.data["status"], done.data["outputs"]) == ("success", {"done": True})
    assert (tmp_path / "mark").read_text() == "x\n"


async def test_an_answer_can_be_given_without_waiting(tmp_path: Path) -> None:
    """The run goes on behind it."""
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one", wait=False)
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one", wait_seconds=30)
        checkpoint_id = asked.data["checkpoint_id"]
        await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response="no", wait=False)
        ended = await call.services.executor.wait_for_run("one", 30)
    assert ended.outputs == {"answer": "no"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_call_that_ends_early_leaves_its_run_going(tmp_path: Path, mode: Mode, how: str) -> None:
    """A run belongs to the server: whoever asks later is told what it has come to."""
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    inputs = {"gate": str(gate), "mark": str(mark)}
    async with talking(settings_of(tmp_path), mode) as call:
        arguments = {"workflow": "wait_for", "inputs": inputs, "run_id": "one"}
        if how == "cancelled":
            waiting = asyncio.create_task(call.client.call_tool("execute_workflow", arguments))
            await until(mark.exists)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        while not mark.exists():  # a client that is impatient calls again
            with pytest.raises(MCPError):
                await call.client.call_tool("execute_workflow", arguments, read_timeout_seconds=0.2)
        assert (await call.services.executor.wait_for_run("one", 0)).status == "running"
        gate.touch()
        ended = await call.ok("execute_workflow", **arguments)
    assert ended.data["status"] == "success"
    assert mark.read_text() == "x\n"


async def test_a_call_waits_for_the_run_of_another_server(tmp_path: Path, database_url: str) -> None:
    """Up to its end, or to that of the server that waits."""
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    arguments = {"workflow": "wait_for", "inputs": {"gate": str(gate), "mark": str(mark)}, "run_id": "one"}
    settings = settings_of(tmp_path, database_url)
    async with talking(settings) as first, talking(settings) as second, talking(settings) as third:
        await first.ok("execute_workflow", **arguments, wait=False)
        waiting = asyncio.create_task(second.ok("execute_workflow", **arguments))
        until_its_end = asyncio.create_task(third.services.executor.wait_for_run("one", 3600))
        await asyncio.wait([waiting, until_its_end], timeout=0.1)
        await third.services.executor.stop()
        assert (await asyncio.wait_for(until_its_end, 20)).status == "running"
        gate.touch()
        assert (await waiting).data["status"] == "success"
    assert mark.read_text() == "x\n"


async def test_yaml_runs_once_and_is_not_kept(tmp_path: Path) -> None:
    """Also in one line; it can call what the server has."""
    text = "{name: once, blocks: [{id: call, type: Workflow, inputs: {workflow: greet, inputs: {who: Bob}}}], "
    text += 'outputs: {said: "{{ blocks.call.outputs.said }}"}}'
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("execute_inline_workflow", workflow_yaml=text)
        assert (said.data["workflow"], said.data["outputs"]) == ("once", {"said": "hello Bob"})
        assert "there is no workflow 'once'" in await call.refused("execute_workflow", workflow="once")
        broken = await call.refused("execute_inline_workflow", workflow_yaml="name: x\nblocks: [{id: a, type: Shel}]")
        assert "'Shel'" in broken
        assert "line 2, column 1" in await call.refused("execute_inline_workflow", workflow_yaml="name: [")


async def test_yaml_can_be_switched_off(tmp_path: Path) -> None:
    """Then there is no such tool, and no way around."""
    async with talking(settings_of(tmp_path, inline_workflows=False)) as call:
        assert "execute_inline_workflow" not in {tool.name for tool in (await call.client.list_tools()).tools}
        text = "name: x\nblocks: [{id: a, type: Shell, inputs: {command: 'true'}}]"
        assert "Unknown tool" in await call.refused("execute_inline_workflow", workflow_yaml=text)
        refusal = await call.refused("execute_workflow", workflow=text)
        assert "no YAML" in refusal
        assert "execute_inline_workflow" not in refusal


@pytest.mark.parametrize("wait", [True, False])
async def test_no_file_is_read_that_an_agent_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wait: bool
) -> None:
    """A workflow is named, and what is no name is refused; so is one that merely is a file here."""
    settings = settings_of(tmp_path)
    outside = tmp_path / "outside"
    outside.write_text("name: outside\nblocks: [{id: a, type: Shell, inputs: {command: 'true'}}]")
    monkeypatch.chdir(tmp_path)
    async with talking(settings) as call:
        for path in (str(outside), "./outside", "library/greet.yaml", "greet.yaml", "..\\outside"):
            assert "no path such as" in await call.refused("execute_workflow", workflow=path, wait=wait)
        assert "there is no workflow 'outside'" in await call.refused("execute_workflow", workflow="outside", wait=wait)
        yaml = await call.refused("execute_workflow", workflow=outside.read_text() + "\n", wait=wait)
        assert "execute_inline_workflow runs YAML" in yaml


async def test_a_name_that_is_misspelt_brings_those_that_are_close(tmp_path: Path) -> None:
    """First; one that a workflow calls is another matter."""
    async with talking(settings_of(tmp_path)) as call:
        refusal = await call.refused("execute_workflow", workflow="aprove")
        assert "there is no workflow 'aprove'. There are: approve, " in refusal
        assert "list_workflows" in refusal
        assert "'not_there'" in await call.refused("execute_workflow", workflow="call_missing")


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "an input that is missing": ({"workflow": "greet"}, "who"),
    "an input of another type": ({"workflow": "greet", "inputs": {"who": 1}}, "who"),
    "an input that there is not": ({"workflow": "greet", "inputs": {"who": "x", "whom": "y"}}, "whom"),
    "inputs that are a list": ({"workflow": "greet", "inputs": ["Ann"]}, "inputs: "),
    "a parameter that there is not": ({"workflow": "greet", "input": {}}, "no parameter 'input'; there are workflow, "),
    "no workflow": ({}, "workflow is missing"),
    "a run_id that is none": ({"workflow": "fail", "run_id": ""}, "run_id must have 1 to 512 bytes"),
    "no time at all": ({"workflow": "fail", "wait_seconds": -1}, "wait_seconds: "),
}
"""What is wrong with a call, and what its refusal speaks of."""


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_makes_no_sense_is_refused_and_begins_nothing(tmp_path: Path, mode: Mode) -> None:
    """In words that tell what to change, and without what was given."""
    async with talking(settings_of(tmp_path), mode) as call:
        for name, (arguments, word) in WRONG.items():
            refusal = await call.refused("execute_workflow", **arguments)
            assert word in refusal, name
            assert "Ann" not in refusal
            assert "pydantic" not in refusal
        assert await call.services.executor.list_runs() == []


async def test_the_run_of_another_workflow_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """Its id is taken."""
    async with talking(settings_of(tmp_path)) as call:
        await call.ok("execute_workflow", workflow="fail", run_id="mine")
        refusal = await call.refused("execute_workflow", workflow="greet", inputs={"who": "x"}, run_id="mine")
        assert "run 'mine' is a run of workflow 'fail'" in refusal


async def test_a_client_that_sends_json_as_text_is_understood(tmp_path: Path) -> None:
    """Some do so with objects; and an answer that looks like JSON stays what it is."""
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("execute_workflow", workflow="greet", inputs=json.dumps({"who": "Ann"}), run_id=None)
        assert said.data["outputs"] == {"said": "hello Ann"}
        for answer in ("null", "true", '{"a": 1}', "[1, 2]", "12", '"quoted"'):
            asked = await call.ok("execute_workflow", workflow="anything")
            ended = await call.ok("resume_workflow", checkpoint_id=asked.data["checkpoint_id"], response=answer)
            assert ended.data["outputs"] == {"said": answer}
        for name in ("null", "[1]", "true"):
            for _ in range(2):
                ran = await call.ok("execute_workflow", workflow="greet", inputs={"who": name}, run_id=name)
                assert ran.data["run_id"] == name
            found = await call.ok("list_checkpoints", run_id=name, status="completed")
            assert len(found.data["checkpoints"]) == 1
        assert (await call.ok("list_runs", workflow="null")).data["runs"] == []
        assert (await call.ok("list_checkpoints", workflow_name="null")).data["checkpoints"] == []
        assert "before takes" in await call.refused("list_runs", before="null")


async def test_a_long_output_is_cut_in_the_text_alone(tmp_path: Path) -> None:
    """And the text says so."""
    text = "{name: long, blocks: [{id: a, type: Shell, inputs: {command: 'yes | head -c 20000'}}], "
    text += 'outputs: {all: "{{ blocks.a.outputs.stdout }}"}}'
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("execute_inline_workflow", workflow_yaml=text)
    assert len(said.data["outputs"]["all"]) == 20000
    assert len(said.text) < 9000
    assert "the structured content has all of it" in said.text


async def test_no_secret_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in an output, nor in a question, nor in an error."""
    monkeypatch.setenv("WORKFLOW_SECRET_KEY", "s3cret-pa55-word")
    text = """
name: leak
blocks:
  - {id: say, type: Shell, inputs: {command: "echo {{ secrets.KEY }}; echo {{ secrets.KEY }} >&2; exit %d"}}
  - {id: ask, type: Prompt, depends_on: [say], inputs: {prompt: "Is it {{ blocks.say.outputs.stdout }}?"}}
outputs:
  said: "{{ blocks.say.outputs.stdout }}"
"""
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_inline_workflow", workflow_yaml=text % 0)
        ended = await call.ok("resume_workflow", checkpoint_id=asked.data["checkpoint_id"], response="no")
        failed = await call.ok("execute_inline_workflow", workflow_yaml=text % 1)
    assert (asked.data["status"], ended.data["status"], failed.data["status"]) == ("paused", "success", "failure")
    for said in (asked, ended, failed):
        assert "s3cret" not in said.text + json.dumps(said.data)
