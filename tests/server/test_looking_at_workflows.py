"""An agent finds out which workflows there are, what they want, and whether one that it wrote is right."""

import asyncio
import json
from pathlib import Path

import jsonschema
import pytest
from mcp.server.session import ServerSession

from tests.server.conversation import MODES, Mode, settings_of, talking, write_workflows
from workflows_mcp.engine.library import BUILT_IN


@pytest.mark.parametrize("mode", MODES)
async def test_a_list_tells_what_each_workflow_is_for_and_what_it_takes(tmp_path: Path, mode: Mode) -> None:
    """Of the folders and of those that come along; where they are on the disk is the server's business."""
    async with talking(settings_of(tmp_path), mode) as call:
        said = await call.ok("list_workflows")
    rows = {row["name"]: row for row in said.data["workflows"]}
    assert rows.keys() >= {"greet", "approve", *(path.stem for path in BUILT_IN.glob("*.yaml"))}
    assert (rows["greet"]["source"], rows["greet"]["built_in"]) == ("library/greet.yaml", False)
    assert rows["ask-human"]["built_in"]
    assert [(one["name"], one["type"], one["required"]) for one in rows["greet"]["inputs"]] == [("who", "str", True)]
    assert "- greet (inputs: who*" in said.text
    assert str(tmp_path) not in json.dumps(said.data) + said.text
    assert said.data["total"] == len(rows)


async def test_a_list_can_be_of_some_tags_and_of_some_length(tmp_path: Path) -> None:
    """And says what is left out of it."""
    write(tmp_path, "one", tags=["a", "b"])
    write(tmp_path, "two", tags=["a"])
    async with talking(settings_of(tmp_path)) as call:
        both = await call.ok("list_workflows", tags=["a", "b"])
        assert [row["name"] for row in both.data["workflows"]] == ["one"]
        first = await call.ok("list_workflows", tags=["a"], limit=1)
        assert ([row["name"] for row in first.data["workflows"]], first.data["total"]) == (["one"], 2)
        assert "the first 1" in first.text
        assert "0 workflows with nothing" in (await call.ok("list_workflows", tags=["nothing"])).text


async def test_a_broken_file_is_named_with_its_reason_and_the_rest_load(tmp_path: Path) -> None:
    """Also where somebody asks for it by the name that the file has."""
    (write_workflows(tmp_path) / "torn.yaml").write_text("name: torn\nblocks: [")
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("list_workflows")
        [broken] = said.data["broken"]
        assert broken["file"] == "library/torn.yaml"
        assert broken["problem"].startswith("line 2, column 10: ")
        assert f"- library/torn.yaml: {broken['problem']}" in said.text
        assert "greet" in {row["name"] for row in said.data["workflows"]}
        refusal = await call.refused("get_workflow_info", workflow="torn")
        assert "broken: library/torn.yaml: line 2" in refusal
        assert str(tmp_path) not in refusal + said.text


async def test_a_workflow_whose_file_has_become_broken_is_not_just_unknown(tmp_path: Path) -> None:
    """Whatever the file is called; and a reload tells that it is gone, though a call had noticed that before."""
    library = write_workflows(tmp_path)
    (library / "w.yaml").write_text("name: city-weather\nblocks: [{id: a, type: Prompt, inputs: {prompt: x}}]\n")
    async with talking(settings_of(tmp_path)) as call:
        await call.ok("get_workflow_info", workflow="city-weather")
        (library / "w.yaml").write_text("name: city-weather\nblocks: [")
        refusal = await call.refused("execute_workflow", workflow="city-weather")
        assert "no workflow 'city-weather', but a file that is broken: library/w.yaml: line 2" in refusal
        (library / "w.yaml").write_text("blocks: [")
        refusal = await call.refused("execute_workflow", workflow="city-weather")
        assert "no workflow 'city-weather'; perhaps it was in what is broken: library/w.yaml: line 1" in refusal
        assert "broken" not in (await call.refused("execute_workflow", workflow="gret")).partition("There are")[0]
        said = await call.ok("reload_workflows")
        assert said.data["removed"] == ["city-weather"]
        assert "Nothing has changed" in (await call.ok("reload_workflows")).text


async def test_a_reload_tells_which_changes_cannot_run(tmp_path: Path) -> None:
    """A file may be one of a workflow, and its plan be wrong."""
    async with talking(settings_of(tmp_path)) as call:
        await call.ok("list_workflows")
        write(tmp_path, "fine")
        for name in ("fresh", "greet"):
            (tmp_path / "library" / f"{name}.yaml").write_text(f"name: {name}\nblocks: [{{id: a, type: Nothing}}]\n")
        said = await call.ok("reload_workflows")
    assert said.data["problems"].keys() == {"fresh", "greet"}
    assert "fine, fresh (cannot run: " in said.text
    assert "changed: greet (cannot run: " in said.text
    assert str(tmp_path) not in said.text


async def test_what_cannot_run_here_says_why(tmp_path: Path) -> None:
    """For what it calls is not there, its expressions are wrong, or its block types are switched off."""
    write(tmp_path, "wrong", blocks="[{id: a, type: Shell, inputs: {command: '{{ nope }}'}}]")
    write(tmp_path, "outer", blocks="[{id: a, type: Workflow, inputs: {workflow: greet, inputs: {who: x}}}]")
    async with talking(settings_of(tmp_path, disabled_blocks=("Shell",))) as call:
        rows = {row["name"]: row for row in (await call.ok("list_workflows")).data["workflows"]}
        assert "there is no workflow 'not_there'" in rows["call_missing"]["problem"]
        assert "'nope' is not defined" in rows["wrong"]["problem"]
        for name in ("greet", "outer"):  # the other one calls it
            assert "'Shell' is switched off" in rows[name]["problem"]
        assert rows["anything"]["problem"] is None
        page = await call.ok("get_workflow_info", workflow="outer")
        assert "It cannot run on this server: workflow 'greet': block 'hello'" in page.text
        assert [(one["id"], one["calls"]) for one in page.data["blocks"]] == [("a", "greet")]
        checked = await call.ok("validate_workflow_yaml", yaml_content="name: x\nblocks: [{id: a, type: Shell}]")
        assert not checked.data["valid"]


async def test_all_about_a_workflow(tmp_path: Path) -> None:
    """What a caller gives and gets, and what happens in between; its YAML where it is asked for."""
    async with talking(settings_of(tmp_path)) as call:
        page = await call.ok("get_workflow_info", workflow="approve", include_yaml=True)
        assert [(one["id"], one["type"], one["wave"]) for one in page.data["blocks"]] == [
            ("build", "Shell", 1),
            ("ask", "Prompt", 2),
            ("deploy", "Shell", 3),
        ]
        assert page.data["blocks"][1]["depends_on"] == ["build"]
        assert [one["name"] for one in page.data["outputs"]] == ["answer"]
        assert (page.data["asks_a_human"], page.data["uri"]) == (True, "workflow://approve")
        assert page.data["yaml"] == (tmp_path / "library" / "approve.yaml").read_text()
        assert page.data["yaml"] in page.text
        assert "- wave 2: ask (Prompt, after build)" in page.text
        human = await call.ok("get_workflow_info", workflow="ask-human")
        defaults = {one["name"]: one["default"] for one in human.data["inputs"] if not one["required"]}
        assert defaults
        assert human.data["yaml"] is None


async def test_a_workflow_is_found_by_its_name_alone(tmp_path: Path) -> None:
    """Never by a path; what there is instead is told, what is alike first."""
    async with talking(settings_of(tmp_path)) as call:
        for name in ("../library/greet.yaml", "name: x\nblocks: []", "", "x" * 600):
            assert "list_workflows" in await call.refused("get_workflow_info", workflow=name)
        assert "There are: greet, " in await call.refused("get_workflow_info", workflow="gret")


async def test_the_schema_is_one_that_the_workflows_fit(tmp_path: Path) -> None:
    """And one that something else does not."""
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("get_workflow_schema")
    validator = jsonschema.Draft202012Validator(said.data["json_schema"])
    block = {"id": "a", "type": "Shell", "inputs": {"command": "true"}}
    assert validator.is_valid({"name": "x", "blocks": [block]})
    assert not validator.is_valid({"name": "x", "blocks": [{**block, "typ": "Shell"}]})
    assert json.loads(said.text) == said.data["json_schema"]


async def test_a_text_is_checked_as_a_whole_and_every_problem_told(tmp_path: Path) -> None:
    """With its place: a line, or a block and what stands in it."""
    text = "name: x\nblocks:\n- {id: a, type: Shell}\n- {id: b, type: Shell, inputs: {command: '{{ inputs.nope }}'}}\n"
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("validate_workflow_yaml", yaml_content=text)
        assert not said.data["valid"]
        assert [problem[:9] for problem in said.data["problems"]] == ["block 'a'", "block 'b'"]
        assert all(f"- {problem}" in said.text for problem in said.data["problems"])
        torn = await call.ok("validate_workflow_yaml", yaml_content="name: x\nblocks: [")
        assert "line 2, column 10" in torn.data["problems"][0]
        missing = await call.ok("validate_workflow_yaml", yaml_content=calling("not_there"))
        assert "there is no workflow 'not_there'" in missing.data["problems"][0]
        # No file is read that a client names.
        path = await call.ok("validate_workflow_yaml", yaml_content=str(tmp_path / "library" / "greet.yaml"))
        assert path.data["problems"] == ["a workflow is a mapping with name and blocks"]


async def test_a_text_that_is_right_tells_what_it_wants_and_what_is_odd_about_it(tmp_path: Path) -> None:
    """And nothing of it has run, nor is it kept."""
    mark = tmp_path / "ran"
    text = f"""
name: greet
inputs: {{who: {{description: A name}}, left: {{default: 1, type: num}}}}
blocks: [{{id: a, type: Shell, inputs: {{command: "touch {mark}; echo {{{{ inputs.who }}}}"}}}}]
"""
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("validate_workflow_yaml", yaml_content=text)
        assert (said.data["valid"], said.data["name"], said.data["problems"]) == (True, "greet", [])
        assert said.data["waves"] == [["a"]]
        assert [(one["name"], one["required"]) for one in said.data["inputs"]] == [("who", True), ("left", False)]
        assert [warning[:30] for warning in said.data["warnings"]] == [
            "it has no description: those w",
            "it has no outputs: whoever run",
            "input 'left' is read nowhere",
            "there is a workflow 'greet' al",
        ]
        assert not mark.exists()
        assert (await call.ok("list_runs")).data["runs"] == []
        fine = await call.ok("validate_workflow_yaml", yaml_content=calling("greet", who="x"))
        assert fine.data["warnings"] == []


async def test_reloading_tells_what_has_changed(tmp_path: Path) -> None:
    """New files are found from then on, changed ones are used, those that are gone are not."""
    library = write_workflows(tmp_path)
    async with talking(settings_of(tmp_path)) as call:
        await call.ok("list_workflows")
        unchanged = await call.ok("reload_workflows")
        assert (unchanged.data["added"], unchanged.data["changed"], unchanged.data["removed"]) == ([], [], [])
        assert "Nothing has changed" in unchanged.text
        write(tmp_path, "fresh")
        (library / "greet.yaml").write_text(calling("approve").replace("name: x", "name: greet"))
        (library / "ticket.yaml").unlink()
        (library / "torn.yaml").write_text("{")
        said = await call.ok("reload_workflows")
        assert said.data["added"] == ["fresh"]
        assert said.data["changed"] == ["greet"]
        assert said.data["removed"] == ["ticket"]
        assert [one["file"] for one in said.data["broken"]] == ["library/torn.yaml"]
        assert "added: fresh; changed: greet; removed: ticket" in said.text
        assert (await call.ok("get_workflow_info", workflow="fresh")).data["name"] == "fresh"


async def test_clients_of_the_older_protocol_are_told_nothing_that_was_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a reload has changed something: the server says at the beginning that it tells no such thing."""
    monkeypatch.delattr(ServerSession, "send_resource_list_changed")
    async with talking(settings_of(tmp_path), "legacy") as call:
        resources = call.client.server_capabilities.resources
        assert resources is not None
        assert not resources.list_changed
        await call.ok("list_workflows")
        write(tmp_path, "fresh")
        assert (await call.ok("reload_workflows")).data["added"] == ["fresh"]


async def test_clients_that_listen_are_told_that_resources_have_changed(tmp_path: Path) -> None:
    """As the current protocol has it: by a subscription."""
    async with talking(settings_of(tmp_path)) as call, call.client.listen(resources_list_changed=True) as events:
        await call.ok("reload_workflows")
        write(tmp_path, "fresh")
        await call.ok("reload_workflows")
        assert type(await asyncio.wait_for(anext(aiter(events)), 10)).__name__ == "ResourcesListChanged"


def write(folder: Path, name: str, *, tags: list[str] | None = None, blocks: str | None = None) -> None:
    """Add a workflow to the library."""
    blocks = blocks or "[{id: a, type: Prompt, inputs: {prompt: x}}]"
    (write_workflows(folder) / f"{name}.yaml").write_text(f"name: {name}\ntags: {tags or []}\nblocks: {blocks}\n")


def calling(workflow: str, **inputs: str) -> str:
    """The text of a workflow that runs another one, and about which nothing is odd."""
    block = {"id": "a", "type": "Workflow", "inputs": {"workflow": workflow, "inputs": inputs}}
    return f"name: x\ndescription: d\nblocks: [{json.dumps(block)}]\noutputs: {{y: 1}}\n"
