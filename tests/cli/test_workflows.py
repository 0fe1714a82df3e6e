"""`workflows list`, `show`, `validate` and `schema`; and how workflows and inputs are named on the command line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import ASKING, CLI

ROOT = Path(__file__).parents[2]

ONE = """\
name: one
description: >-
  Says something,
  and nothing else
tags: [ops, small]
inputs:
  text: {description: What is said}
  number: {type: num, default: 1}
  pairs: {type: dict, required: false}
blocks:
  - {id: say, type: Shell, inputs: {command: "printf %s {{ inputs.text | shquote }}"}}
  - id: again
    type: Shell
    depends_on: [{block: say, required: false}]
    condition: "{{ inputs.number > 1 }}"
    inputs: {command: "true"}
outputs:
  said: "{{ blocks.say.outputs.stdout }}"
  number: "{{ inputs.number }}"
  pairs: "{{ inputs.pairs }}"
"""

CALLING = """\
name: calling
tags: [ops]
blocks:
  - {id: call, type: Workflow, inputs: {workflow: one, inputs: {text: hello}}}
"""


@pytest.fixture
def library(tmp_path: Path) -> dict[str, str]:
    """The environment with a library of two folders, the later of which overrides the earlier, and a broken file."""
    for name, text in {
        "base/one.yaml": ONE.replace("Says something", "Is overridden"),
        "base/calling.yaml": CALLING,
        "base/broken.yaml": "name: [\n",
        "own/one.yaml": ONE,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return {"WORKFLOWS_TEMPLATE_PATHS": "base,own"}


def test_the_library_is_listed_although_a_file_in_it_is_broken(cli: CLI, library: dict[str, str]) -> None:
    """The file is named with its flaw; what was overridden is not listed; tags narrow the list down."""
    listing = cli("workflows", "list", env=library)
    assert listing.code == 0
    lines = {line.split()[0]: line for line in listing.out.splitlines()}
    assert {"name", "calling", "one"} <= lines.keys()
    assert "Says something, and nothing else" in lines["one"]
    assert lines["one"].endswith("own/one.yaml")
    assert listing.err.startswith("broken: base/broken.yaml: line 2")

    tagged = cli("workflows", "list", "--tag", "ops", "--tag", "small", "--json", env=library).json()
    assert [(one["name"], one["source"], one["built_in"]) for one in tagged["workflows"]] == [
        ("one", "own/one.yaml", False)
    ]
    assert list(tagged["broken"]) == ["base/broken.yaml"]


def test_what_comes_along_is_listed_as_built_in_until_it_is_overridden(cli: CLI, tmp_path: Path) -> None:
    """On a fresh installation too; a folder's workflow of the same name stands in its place."""
    listing = cli("workflows", "list", "--tag", "approval")
    lines = {line.split()[0]: line for line in listing.out.splitlines()}
    assert set(lines) == {"name", "approval-gate", "group-approval", "guarded-command"}
    assert lines["approval-gate"].endswith("  built in")
    assert "source: built in" in cli("workflows", "show", "approval-gate").out
    assert "in the folders that WORKFLOWS_TEMPLATE_PATHS names" in cli("workflows", "list").out

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gate.yaml").write_text(ONE.replace("name: one", "name: approval-gate"))
    mine = {"WORKFLOWS_TEMPLATE_PATHS": "mine"}
    [shown] = [
        line for line in cli("workflows", "list", env=mine).out.splitlines() if line.startswith("approval-gate ")
    ]
    assert shown.endswith("mine/gate.yaml")
    assert cli("workflows", "show", "approval-gate", "--json", env=mine).json()["built_in"] is False


def test_a_tag_that_nothing_has_is_no_error(cli: CLI) -> None:
    """The list says so."""
    listing = cli("workflows", "list", "--tag", "nothing")
    assert (listing.code, listing.out) == (0, "There is no workflow with this tag.\n")


def test_show_tells_what_a_workflow_takes_does_and_gives(cli: CLI, library: dict[str, str]) -> None:
    """By name or by file; its blocks wave by wave; the definition as it was written, for programs."""
    shown = cli("workflows", "show", "own/one.yaml", env=library)
    assert shown.code == 0
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["text", "str", "required", "What", "is", "said"] in lines
    assert ["number", "num", "default:", "1"] in lines
    assert ["pairs", "dict", "optional"] in lines
    assert ["1", "say", "Shell"] in lines
    assert "2     again  Shell  (say)  condition: {{ inputs.number > 1 }}" in shown.out
    assert "said    {{ blocks.say.outputs.stdout }}" in shown.out

    data = cli("workflows", "show", "one", "--json", env=library).json()
    assert data["source"] == "own/one.yaml"
    assert data["waves"] == [["say"], ["again"]]
    assert data["definition"]["inputs"]["number"] == {"type": "num", "default": 1}


def test_validate_checks_each_file_and_what_it_calls(cli: CLI, library: dict[str, str], tmp_path: Path) -> None:
    """The good ones on stdout, what is wrong on stderr; nothing runs, and no database is made."""
    (tmp_path / "asking.yaml").write_text(ASKING)
    (tmp_path / "lost.yaml").write_text(CALLING.replace("workflow: one", "workflow: nowhere"))
    (tmp_path / "first.yaml").write_text(CALLING.replace("workflow: one", "workflow: asking"))
    files = ("first.yaml", "asking.yaml", "base/calling.yaml", "lost.yaml", "base/broken.yaml", "typo")
    checked = cli("workflows", "validate", *files, env=library)
    assert checked.code == 1
    assert checked.out.splitlines() == [
        "first.yaml: fine, workflow calling",
        "asking.yaml: fine, workflow asking",
        "base/calling.yaml: fine, workflow calling",
    ]
    lost, broken, typo = checked.err.splitlines()
    assert "there is no workflow 'nowhere'" in lost
    assert broken.startswith("error: base/broken.yaml: line 2")
    assert "no workflow 'typo' in the library; there are approval-gate, " in typo
    assert "calling, " in typo
    assert cli("workflows", "validate", "own/one.yaml", "asking.yaml", "--json", env=library).code == 0
    assert not (tmp_path / ".local").exists()


def test_what_a_file_calls_is_found_beside_it_by_validate_and_by_run_alike(cli: CLI, tmp_path: Path) -> None:
    """By its own name, in no other folder; a file that is only validated at the same time is none that is there."""
    for path, called in {
        "outer.yaml": "inner",
        "inner.yml": "innermost",
        "alone.yaml": "one",
        "odd.yaml": "misnamed",
        "misnamed.yaml": "outer",
        "away.yaml": "other/one",
        "up.yaml": "../one",
        "long.yaml": "n" * 500,
    }.items():
        name = "other" if path == "misnamed.yaml" else Path(path).stem
        (tmp_path / path).write_text(
            f"name: {name}\nblocks: [{{id: a, type: Workflow, inputs: {{workflow: {called}}}}}]"
        )
    (tmp_path / "innermost.yaml").write_text(
        ASKING.replace("name: asking", "name: innermost").replace("{type: str}", "{default: Ann}")
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.yaml").write_text(ONE)
    checked = cli("workflows", "validate", "outer.yaml", "other/one.yaml", "alone.yaml", "odd.yaml", "away.yaml")
    assert checked.out.splitlines() == ["outer.yaml: fine, workflow outer", "other/one.yaml: fine, workflow one"]
    alone, odd, away = checked.err.splitlines()
    assert "block 'a': there is no workflow 'one': put its file, of the same name, beside this one or" in alone
    assert "there is no workflow 'misnamed': 'other' is what the file of that name holds" in odd
    assert "there is no workflow 'other/one': put its file" in away
    for path in ("up.yaml", "long.yaml"):
        assert "put its file, of the same name" in cli("workflows", "validate", path).error()

    ran = cli("run", "outer.yaml", "--database-url", "memory://")
    assert ran.code == 0, ran.err
    assert "✓ a/a/greet" in ran.err
    assert alone.removeprefix("error: alone.yaml: ") in cli("run", "alone.yaml", "--database-url", "memory://").error()


def test_the_library_goes_before_what_stands_beside_a_file(cli: CLI, library: dict[str, str], tmp_path: Path) -> None:
    """What somebody puts into a folder does not change what a workflow of the library does."""
    (tmp_path / "outer.yaml").write_text(CALLING)
    (tmp_path / "one.yaml").write_text("name: [\n")
    assert cli("workflows", "validate", "outer.yaml", env=library).code == 0
    assert cli("run", "outer.yaml", "--database-url", "memory://", env=library).code == 0
    assert "one.yaml: line 2" in cli("workflows", "validate", "outer.yaml").error()


def test_validate_refuses_what_is_switched_off_here(cli: CLI, library: dict[str, str]) -> None:
    """As `run` does."""
    refused = cli("workflows", "validate", "own/one.yaml", env={**library, "WORKFLOWS_DISABLED_BLOCKS": "Shell"})
    assert refused.code == 1
    assert "'Shell' is switched off" in refused.error()


def test_the_schema_is_the_one_that_the_documents_point_editors_at(cli: CLI) -> None:
    """For those who have no checkout."""
    assert cli("workflows", "schema").json() == json.loads((ROOT / "docs" / "workflow-schema.json").read_text())


def test_a_workflow_is_run_by_its_name_and_calls_others_by_theirs(cli: CLI, library: dict[str, str]) -> None:
    """Both from the library; the progress tells of the nested one."""
    ran = cli("run", "calling", "--json", "--database-url", "memory://", env=library)
    assert ran.code == 0, ran.err
    assert "✓ call/say" in ran.err


def test_a_secret_that_is_none_is_named_and_not_shown(cli: CLI, library: dict[str, str]) -> None:
    """Before anything runs."""
    ran = cli("run", "calling", "--database-url", "memory://", env={**library, "WORKFLOW_SECRET_PIN": "1234"})
    assert ran.code == 1
    assert "WORKFLOW_SECRET_PIN" in ran.error()
    assert "1234" not in ran.err


def test_inputs_are_text_or_json_as_their_types_say(cli: CLI, library: dict[str, str], tmp_path: Path) -> None:
    """What looks like a number stays text where text is wanted; what is typed wins over a file."""
    words = ("run", "own/one.yaml", "--json", "--database-url", "memory://")
    typed = cli(*words, "--input", "text=007", "--input", "number=2.5", "--input", 'pairs={"a": [1, "b"]}', env=library)
    assert typed.json()["outputs"] == {"said": "007", "number": 2.5, "pairs": {"a": [1, "b"]}}

    (tmp_path / "in.json").write_text('{\n\t"text": "from a file",\n\t"pairs": {"no": null}\n}')
    from_json = cli(*words, "--inputs", "in.json", "--input", "number=3", env=library)
    assert from_json.json()["outputs"] == {"said": "from a file", "number": 3, "pairs": {"no": None}}

    (tmp_path / "in.yaml").write_text("text: 'no'\nnumber: 4\n")
    from_yaml = cli(*words, "--inputs", "in.yaml", "--input", "text=yes", env=library)
    assert from_yaml.json()["outputs"] == {"said": "yes", "number": 4, "pairs": None}

    unfit = cli(*words, "--input", "text=a", "--input", "number=many", env=library)
    assert "input 'number' (num) must be a num, and is a str" in unfit.error()
