"""What is read by its address: workflows, checkpoints, runs. And what a user may begin with: prompts."""

import json
import logging
import math
from pathlib import Path

import pytest
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ResourceError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from tests.server.conversation import MODES, Conversation, Mode, settings_of, talking, write_workflows
from workflows_mcp.server import resources
from workflows_mcp.server.texts import texts_of
from workflows_mcp.testing import make_state
from workflows_mcp.testing.values import nested

ODD_NAMES = ["a b/c", "../../etc/passwd", "/etc/passwd", "été?#%41 {x}", "C:\\x", "."]
"""Names that a workflow may have, since none is ever made a path of."""


def write(folder: Path, name: str, number: int = 0) -> str:
    """Add a workflow to the library; its text."""
    text = f"name: {json.dumps(name)}\nblocks: [{{id: a, type: Prompt, inputs: {{prompt: x}}}}]\n"
    (write_workflows(folder) / f"odd{number}.yaml").write_text(text)
    return text


@pytest.mark.parametrize("mode", MODES)
async def test_every_workflow_is_listed_and_can_be_read(tmp_path: Path, mode: Mode) -> None:
    """Whatever its name is made of; those that come along, too."""
    texts = {name: write(tmp_path, name, number) for number, name in enumerate(ODD_NAMES)}
    async with talking(settings_of(tmp_path), mode) as call:
        listed = (await call.client.list_resources()).resources
        by_name = {one.name: one for one in listed}
        assert by_name.keys() >= {"greet", "ask-human", *ODD_NAMES}
        assert {one.mime_type for one in listed} == {"application/yaml"}
        assert by_name["a b/c"].uri == "workflow://a%20b%2Fc"
        for name, text in texts.items():
            assert await call.read(by_name[name].uri) == text
        assert await call.read("workflow://greet") == (tmp_path / "library" / "greet.yaml").read_text()
        page = await call.ok("get_workflow_info", workflow="a b/c")
        assert await call.read(page.data["uri"]) == texts["a b/c"]
        templates = (await call.client.list_resource_templates()).resource_templates
        assert {one.uri_template for one in templates} == {
            "workflow://{name}",
            "checkpoint://{checkpoint_id}",
            "run://{run_id}",
        }
        assert all(one.description and one.title for one in templates)


async def test_a_long_list_of_workflows_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them once."""
    monkeypatch.setattr(resources, "_PAGE", 4)
    async with talking(settings_of(tmp_path)) as call:
        names: list[str] = []
        cursor = None
        while True:
            page = await call.client.list_resources(cursor=cursor)
            assert 0 < len(page.resources) <= 4
            names += [one.name for one in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert names == call.services.library.names()


async def test_a_state_is_read_as_json_and_large_texts_in_it_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it would be too long with them; one that is too long without them says where to see it."""
    monkeypatch.setattr(resources, "MAX_CHARACTERS", 20_000)
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        state = json.loads(await call.read(f"checkpoint://{asked.data['checkpoint_id']}"))
        assert (state["run_id"], state["paused_block_id"]) == ("one", "ask")
        assert state["context"]["blocks"]["build"]["status"] == "succeeded"
        run = json.loads(await call.read("run://one"))
        assert run == (await call.ok("get_run", run_id="one")).data | {"age_seconds": run["age_seconds"]}

        context = {"large": ["x" * 30_000, "small"], "other": {"y": "z"}}
        await call.services.store.save_checkpoint(make_state("large", context=context))
        read = json.loads(await call.read("checkpoint://large"))
        assert read["context"] == {"large": ["(left out: 30,000 characters)", "small"], "other": {"y": "z"}}
        await call.services.store.save_checkpoint(make_state("many", context={"many": ["x" * 100] * 1000}))
        refusal = await refused(call, "checkpoint://many", INTERNAL_ERROR)
        assert "no more than 20,000 are given here" in refusal
        # No store of ours saves such things; other programs may have.
        assert texts_of(["half \ud83d", 1]) == ["half ?"]
        for value, told in ((math.nan, "nan"), ("half \ud83d", "half \ud83d")):
            text = resources._state_text(call.services, make_state("odd", context={"odd": value}))
            assert json.loads(text.encode())["context"] == {"odd": told}
        with pytest.raises(ResourceError, match="'deep' is nested too deeply to be shown"):
            resources._state_text(call.services, make_state("deep", context=nested(5000)))


async def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """In words of the tools; nothing outside of what the server keeps can be read."""
    async with talking(settings_of(tmp_path)) as call:
        assert "There are: greet" in await refused(call, "workflow://gret")
        assert "passwd" in await refused(call, "workflow://%2Fetc%2Fpasswd")
        assert "there is no checkpoint 'none'" in await refused(call, "checkpoint://none")
        assert "there is no run 'none'" in await refused(call, "run://none")
        assert "U+0000" in await refused(call, "checkpoint://a%00b", INTERNAL_ERROR)
        await refused(call, "file:///etc/passwd")


async def test_names_and_ids_are_completed(tmp_path: Path) -> None:
    """Of workflows, of checkpoints that wait, of runs; case does not matter."""
    async with talking(settings_of(tmp_path)) as call:
        asked = await call.ok("execute_workflow", workflow="approve", run_id="one")
        await call.ok("execute_workflow", workflow="greet", inputs={"who": "x"}, run_id="other")

        async def completed(template: str, name: str, value: str) -> list[str]:
            said = await call.client.complete(ResourceTemplateReference(uri=template), {"name": name, "value": value})
            return said.completion.values

        assert await completed("workflow://{name}", "name", "GR") == ["greet", "group-approval"]
        assert await completed("checkpoint://{checkpoint_id}", "checkpoint_id", "") == [asked.data["checkpoint_id"]]
        assert await completed("run://{run_id}", "run_id", "on") == ["one"]
        prompt = PromptReference(name="diagnose_run")
        said = await call.client.complete(prompt, {"name": "run_id", "value": "o"})
        assert said.completion.values == ["other", "one"]
        assert (await call.client.complete(prompt, {"name": "task", "value": ""})).completion.values == []


@pytest.mark.parametrize("mode", MODES)
async def test_prompts_say_what_to_do_by_tools_that_there_are(tmp_path: Path, mode: Mode) -> None:
    """Each with what its user said."""
    async with talking(settings_of(tmp_path), mode) as call:
        offered = {one.name: one for one in (await call.client.list_prompts()).prompts}
        assert offered.keys() == {"author_workflow", "answer_waiting_runs", "diagnose_run"}
        assert all(one.title and one.description for one in offered.values())
        guide = await prompt_text(call, "author_workflow", task="restart the router")
        assert "restart the router" in guide
        assert "in a folder of the library (library), and" in guide
        assert 'list_runs with status="paused"' in await prompt_text(call, "answer_waiting_runs")
        assert 'get_run with run_id="r\\"1"' in await prompt_text(call, "diagnose_run", run_id='r"1')


async def prompt_text(call: Conversation, name: str, **arguments: str) -> str:
    """What a prompt says."""
    [message] = (await call.client.get_prompt(name, arguments)).messages
    assert isinstance(message.content, TextContent)
    return message.content.text


async def refused(call: Conversation, uri: str, code: int = INVALID_PARAMS) -> str:
    """What is said of a resource that cannot be read."""
    with pytest.raises(MCPError) as caught:
        await call.read(uri)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_no_prompt_takes_says_what_is_wrong(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the caller's mistake, and no failure that whoever runs the server must read about."""
    async with talking(settings_of(tmp_path), mode) as call:
        for name, arguments, problem in (
            ("author_workflow", {}, "author_workflow needs `task`"),
            ("diagnose_run", {"run": "x", "run_id": "r"}, "diagnose_run takes no 'run'; it takes `run_id`"),
            ("answer_waiting_runs", {"x": "y"}, "answer_waiting_runs takes no 'x'; it takes nothing"),
            (
                "author",
                None,
                "there is no prompt 'author'; there are author_workflow, answer_waiting_runs, diagnose_run",
            ),
        ):
            with pytest.raises(MCPError) as refusal:
                await call.client.get_prompt(name, arguments)
            assert (refusal.value.error.code, refusal.value.error.message) == (INVALID_PARAMS, problem)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
