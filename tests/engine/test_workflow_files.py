"""What may stand in a workflow's file."""

import os
from pathlib import Path

import pytest

from workflows_mcp.engine import yaml_text
from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.workflow import MAX_FILE_BYTES, read_workflow
from workflows_mcp.engine.yaml_text import YAMLTextError, parse_yaml
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

GOOD = """
name: greet
description: Says hello
inputs:
  who: {type: str, description: Whom to greet, default: world}
blocks:
  - id: hello
    type: Shell
    description: Says it
    inputs: {command: "echo {{ inputs.who | shquote }}"}
  - id: again
    type: Shell
    depends_on: [hello]
    condition: "{{ true }}"
    inputs: {command: echo again}
outputs:
  said: "{{ blocks.hello.outputs.stdout }}"
"""


def test_a_file_and_its_text_give_the_same_definition(tmp_path: Path) -> None:
    """And a definition is taken as it is."""
    file = tmp_path / "greet.yaml"
    file.write_text(GOOD)
    definition = read_workflow(file)
    assert read_workflow(str(file)) == read_workflow(GOOD) == read_workflow(definition) == definition
    assert [block.id for block in definition.blocks] == ["hello", "again"]
    assert [one.block for one in definition.blocks[1].depends_on] == ["hello"]


def test_a_definition_cannot_be_changed() -> None:
    """It is a value."""
    definition = read_workflow(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        definition.name = "other"


@pytest.mark.parametrize("missing", ["gone.yaml", "", "no/such/folder/x.yaml", "nul\0.yaml"])
def test_a_file_that_is_not_there_is_not_found(tmp_path: Path, missing: str) -> None:
    """A folder is no file either."""
    with pytest.raises(WorkflowNotFoundError, match="workflow file"):
        read_workflow(tmp_path / missing)


def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Reading one could take forever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WorkflowNotFoundError, match="is not a file"):
            read_workflow(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: x\nblocks: [\n", "line 3"),
        (b"name: \xff\n", "not UTF-8"),
        (b"# " + b"x" * MAX_FILE_BYTES, "at most 1,048,576 bytes"),
        (b"# " + "ä".encode() * MAX_FILE_BYTES, "at most 1,048,576 bytes"),
        (b"", "a workflow is a mapping"),
        (b"- a\n- b\n", "a workflow is a mapping"),
        (b"name: x\n", "blocks is missing"),
        (b"name: x\nblocks: []\n", "blocks: List should have at least 1 item"),
        (b"name: 5\nblocks: [{id: a, type: Shell}]\n", "name: Input should be a valid string"),
        (b"name: ''\nblocks: [{id: a, type: Shell}]\n", "a workflow's name must have 1 to 512 bytes"),
        (b"name: x\nname: y\nblocks: []\n", "line 2, column 1: the key 'name' stands here twice"),
        (b"name: x\nblocks: [{id: a, type: Shell, inputs: {c: 1, c: 2}}]\n", "the key 'c' stands here twice"),
        (b"name: x\n1: y\n", "line 2, column 1: a key must be text, not int"),
        (b"name: x\ntrue: y\n", "a key must be text, not bool"),
        (b"name: x\n? [a]\n: b\n", "a key must be text, not list"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\n", r"aliases \(\*name\) are refused"),
        (b"name: !!python/object:os.system x\n", "the tag 'tag:yaml.org,2002:python/object:os.system' is refused"),
        (b"name: !!binary aGk=\n", "the tag .* is refused"),
        (b"name: !!set {a, b}\n", "the tag .* is refused"),
        (b"name: x\n--- \nname: y\n", "line 2"),
        (b"name: \x01\n", "characters that YAML does not allow"),
        (b"name: " + b"[" * 5000 + b"\n", "nested too deeply"),
        (b"name: x\nextra: 1\nblocks: [{id: a, type: Shell}]\n", "extra is unknown; the fields are name, description"),
        (
            b"name: x\nblocks: [{id: a, type: Shell, foreach: []}]\n",
            "block 'a' foreach is unknown; the fields are id",
        ),
        (b"name: x\nblocks: [{type: Shell}]\n", "block number 1 id is missing"),
        (
            b"name: x\nblocks: [{id: a-b, type: Shell}]\n",
            "block 'a-b' id is no fit name: .* letters, digits and underscores",
        ),
        (b"name: x\nblocks: [{id: 9a, type: Shell}]\n", "no fit name"),
        (b"name: x\nblocks: [{id: _a, type: Shell}]\n", "no fit name"),
        (b'name: x\nblocks: [{id: "a\\n", type: Shell}]\n', "no fit name"),
        (
            b"name: x\nblocks: [{id: a, type: Shell, depends_on: b}]\n",
            "block 'a' depends_on: Input should be a valid list",
        ),
        (b"name: x\nblocks: [3]\n", "block number 1"),
        (
            b"name: x\ninputs: {a: {type: int}}\nblocks: [{id: a, type: Shell}]\n",
            "inputs.a.type: Input should be 'str', 'num'",
        ),
        (
            b"name: x\ninputs: {a: {typ: str}}\nblocks: [{id: a, type: Shell}]\n",
            "inputs.a.typ is unknown; the fields are type",
        ),
        (b"name: x\ninputs: {a-b: {}}\nblocks: [{id: a, type: Shell}]\n", "inputs.a-b is no fit name"),
        (
            b"name: x\noutputs: {a: {val: 1}}\nblocks: [{id: a, type: Shell}]\n",
            "outputs.a.val is unknown; the fields are value",
        ),
        (b"name: x\nblocks: [{id: a, type: Shell, inputs: {n: 99999999999999999999}}]\n", "int outside"),
        (b"name: x\nblocks: [{id: a, type: Shell, inputs: {n: 1e999}}]\n", "inf is not JSON"),
        (b"name: x\nblocks: [{id: a, type: Shell, inputs: {n: " + b"9" * 5000 + b"}}]\n", "too many digits"),
    ],
)
def test_a_bad_file_is_refused_with_its_path_and_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    """The error says which file, where in it, and what to do."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(WorkflowDefinitionError, match=message) as caught:
        read_workflow(file)
    assert str(file) in str(caught.value)


def test_many_mistakes_are_told_together() -> None:
    """As many as one can read."""
    blocks = "".join(f"  - {{id: b{n}, typ: x}}\n" for n in range(9))
    with pytest.raises(WorkflowDefinitionError, match=r"block 'b0' type is missing; .*; and \d+ more"):
        read_workflow(f"name: x\nblocks:\n{blocks}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("012", 12),
        ("0o17", 15),
        ("0x1f", 31),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("", None),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    """YAML 1.2's core schema, not the surprises of 1.1."""
    found = parse_yaml(f"k: {text}\n")["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["!!int x", "!!float x", "!!null x: y", "!!int []"])
def test_a_tag_that_does_not_fit_is_refused(text: str) -> None:
    """Whatever it is put on."""
    with pytest.raises(YAMLTextError):
        parse_yaml(f"k: {text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: {prompt: Which city: {{ x }}}",
            "line 1, column 23: expected ',' or '}', but got ':'; put all of a text with",
        ),
        (
            "a:\n  b: {{ x }}",
            "line 2, column 7: a key must be text, not dict; put all of a text with {{ … }} in quotes",
        ),
        ("a: {{ x }} y", "; put all of a text with {{ … }} in quotes"),
        ("a:\n\tb: 1", "cannot start any token; indent with spaces"),
        ("a: @x", "found character '@' that cannot start any token"),
        ("a: {1: x}", "a key must be text, not int; put it in quotes"),
    ],
)
def test_what_is_often_written_wrong_is_told_with_the_way_to_write_it(text: str, message: str) -> None:
    """An expression without quotes is a dict in a dict, and a tab is no indentation."""
    with pytest.raises(YAMLTextError) as caught:
        parse_yaml(text + "\n")
    assert message in str(caught.value)
    assert str(caught.value).count("quotes") <= 1


def test_what_a_definition_was_written_as_comes_back() -> None:
    """A default of null is not the same as none."""
    written = {"name": "x", "inputs": {"a": {"default": None}, "b": {}}, "blocks": [{"id": "a", "type": "Shell"}]}
    definition = WorkflowDefinition.model_validate(written)
    assert definition.model_dump(mode="json", exclude_unset=True) == written
    assert not definition.inputs["a"].is_required
    assert definition.inputs["b"].is_required


def test_a_text_may_not_hold_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys count, and what is in others; reading stops at the first that is too many."""
    monkeypatch.setattr(yaml_text, "MAX_NODES", 1000)
    assert parse_yaml(f"a: [{'1,' * 997}]") == {"a": [1] * 997}
    with pytest.raises(YAMLTextError, match="line 1, column 1999: more than 1,000 keys and values are refused; keep"):
        parse_yaml(f"a: [{'1,' * 998}] no YAML")
