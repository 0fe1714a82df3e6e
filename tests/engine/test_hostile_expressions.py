"""Expressions that try to get out, or to use the machine up."""

import json
import resource
import time
from typing import Any

import pytest

from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.expressions import (
    MAX_EXPRESSIONS,
    MAX_RESULT,
    ExpressionError,
    bounded_compilation,
    compile_value,
    render,
)
from workflows_mcp.errors import WorkflowDefinitionError

NESTED: list[Any] = list(range(100_000))
for _ in range(90):
    NESTED = [NESTED]

NAMES: dict[str, Any] = {
    "inputs": {
        "text": "x" * 2**20,
        "items": list(range(500_000)),
        "some": list(range(30_000)),
        "same": list(range(30_000)),
        "short": "abc",
        "lines": "\n" * 2**20,
        "nested": NESTED,
        "huge": 2**5000,
    },
    "blocks": {},
    "metadata": {},
}

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ inputs.__class__ }}",
    "{{ inputs['__class__'] }}",
    "{{ inputs.items.__self__ }}",
    "{{ inputs.get.__globals__ }}",
    "{{ range.__globals__ }}",
    "{{ ''.format }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__.__mro__}'.format_map(inputs) }}",
    "{{ '%s' % 1 }}",
    "{{ '%s' | format(1) }}",
    "{{ 'a' | attr('__class__') }}",
    "{{ ['a'] | map('attr', '__class__') | list }}",
    "{{ ['a'] | map(attribute='__class__') | list }}",
    "{{ ['a'] | map(attribute='__class__.__mro__') | list }}",
    "{{ ['{}'] | map('format', 1) | list }}",
    "{{ ('a' | map('upper')).gi_frame }}",
    "{{ cycler('a').__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ joiner }}",
    "{{ namespace() }}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ inputs.clear() }}",
    "{{ inputs['items'].append(1) }}",
    "{{ inputs['items'].sort() }}",
    "{{ inputs.update({'a': 1}) }}",
    "{{ (1).to_bytes(10, 'big') }}",
    "{{ 'a'.encode() }}",
    "{{ (1).real }}",
    "{{ 1e999 ~ '' }}{{ undefined }}",
    "{{ {1, 2} }}",
    "{{ ''|list|random }}",
    "{{ __import__('os') }}",
]

AMPLIFIERS = [
    "{{ range(10**9) | list }}",
    "{{ range(10**9) }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [0] * 10**9 }}",
    "{{ 9**9**9**9**9 }}",
    "{{ 2**100000 * 2**100000 }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'a'.center(10**9, 'b') }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a' | center(width=10**9) }}",
    "{{ 'a' | indent(10**9, true) }}",
    "{{ inputs.lines | indent(10000, blank=true) }}",
    "{{ inputs.lines | replace('\n', inputs.text) }}",
    "{{ inputs.lines.replace('\n', inputs.text) }}",
    "{{ inputs.text | replace('', inputs.text) }}",
    "{{ inputs.text.join(inputs['items'] | map('string')) }}",
    "{{ inputs['items'] | join(inputs.text) }}",
    "{{ [1] | batch(10**9, 0) | list }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ inputs['items'] | map('center', 100000) | list | length }}",
    "{{ 5 | round(-10**9) }}",
    "{{ 5 | round(10**9, 'ceil') }}",
    "{{ [[1]] | sum(start=[]) }}",
    "{{ inputs.text | wordwrap(1, wrapstring=inputs.text) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ ([inputs.text] * 1000) | string | length }}",
    "{{ ([inputs.text] * 1000) | upper | length }}",
    "{{ ([inputs.text] * 1000) | tojson | length }}",
    "{{ [[inputs.text] * 1000] | join | length }}",
    "{{ [inputs.text] * 1000 }}",
    "{{ [" + "inputs.text[1:]," * 300 + "] | length }}",
    "{{ " + " ~ ".join(["inputs.text"] * 300) + " }}",
    "{{ " + " + ".join(["inputs.text"] * 90) + " }}",
    "{{ [" + "inputs.text," * 300 + "] }}",
    "{{ inputs['items'] | " + " | ".join(["sort"] * 90) + " }}",
    "{{ inputs.text }}" * 10,
    "{{ inputs.text }}" * 1000,
]

PRODUCTS = [
    "{{ (('f' * 8000000) | int(0, 16)) // (('f' * 4000000) | int(0, 16)) > 0 }}",
    "{{ (('f' * 4000000) | int(0, 16)) % (('f' * 2000000) | int(0, 16)) > 0 }}",
    "{{ [('f' * 4000000) | int(0, 16)] | map('round') | list | length }}",
    "{{ inputs.huge // 3 }}",
    "{{ 3 % inputs.huge }}",
    "{{ ('a' * 4000000).rfind('ab' ~ 'a' * 2000000) }}",
    "{{ ('a' * 4000000).rindex('ab' ~ 'a' * 2000000) }}",
    "{{ ('a' * 4000000).rsplit('ab' ~ 'a' * 2000000) | length }}",
    "{{ ('a' * 4000000).rsplit(sep='ab' ~ 'a' * 2000000) | length }}",
    "{{ ('a' * 4000000).rpartition('ab' ~ 'a' * 2000000) | length }}",
    "{{ ('a' * 4000000).strip('b' * 4000000 ~ 'a') | length }}",
    "{{ ('a' * 4000000).lstrip('b' * 4000000 ~ 'a') | length }}",
    "{{ ('a' * 4000000).rstrip('b' * 4000000 ~ 'a') | length }}",
    "{{ ('a' * 2000000) | trim('é' * 2000000 ~ 'a') | length }}",
    "{{ ('a' * 4000000).find('a' * 1000000 ~ 'b') }}",
    "{{ ('a' * 4000000).index('a' * 1000000 ~ 'b') }}",
    "{{ ('a' * 4000000).count('a' * 1000000 ~ 'b') }}",
    "{{ ('a' * 4000000).split('a' * 1000000 ~ 'b') }}",
    "{{ ('a' * 4000000).partition('a' * 1000000 ~ 'b') }}",
    "{{ ('a' * 4000000).replace('a' * 1000000 ~ 'b', '') }}",
    "{{ ('a' * 4000000) | replace('a' * 1000000 ~ 'b', '') }}",
    "{{ ('a' * 1000000 ~ 'b') in ('a' * 4000000) }}",
    "{{ ('a' * 1000000) | wordwrap(1) }}",
    "{{ ('a' * 4000000) | wordwrap(79) | length }}",
    "{{ ('a\u00a0' * 500000) | wordwrap(1) | length }}",
    "{{ inputs.some | select('in', inputs.some) | list }}",
    "{{ range(20000) | reject('in', range(20000) | list) | list | length }}",
    "{{ (['t'] * 1000) | select('in', inputs.text) | list | length }}",
    "{{ ([inputs.some] * 1000) | select('==', inputs.some[:]) | list | length }}",
    "{{ ([inputs.text] * 1000) | select('lower') | list | length }}",
    "{{ [" + "-1 in inputs.some," * 400 + "] | length }}",
    "{{ [" + "-1 not in inputs.some," * 300 + "] | length }}",
    "{{ [" + "inputs.some == inputs.same," * 250 + "] | length }}",
    "{{ [" + "inputs.some < inputs.same," * 250 + "] | length }}",
    "{{ [" + "1 < 2 != inputs.text < inputs.text," * 200 + "] | length }}",
    "{{ [" + "inputs.text is lower," * 350 + "] | length }}",
    "{{ [" + "inputs.some.count(-1)," * 300 + "] | length }}",
    "{{ [" + "inputs.some.index(29999)," * 250 + "] | length }}",
    "{{ '%1000000000d' is odd }}",
    "{{ '%1000000000d' is divisibleby 3 }}",
    "{{ 'a' | round(9, 'ceil') }}",
    "{{ ['a'] | map(attribute='0.' * 4000000 ~ '0') | list }}",
    "{{ range(0, 60000 * (2 ** 61 - 1), 2 ** 61 - 1) | unique | list | length }}",
    "{{ inputs.nested | tojson(16) | length }}",
    "{{ inputs.nested | tojson(indent=8) | length }}",
    "{{ range(300000) | length }}",
]

DEEP = [
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "[" * 300 + "]" * 300 + " }}",
    "{{ " + "-" * 3000 + " 1 }}",
    "{{ " + "not " * 2000 + "1 }}",
    "{{ " + "1 + " * 2000 + "1 }}",
    "{{ " + "{'a':" * 1000 + "1" + "}" * 1000 + " }}",
    "{{ 1 " + "if 1 else 1 " * 500 + " }}",
    "{{ " + " + ".join(["1"] * 110) + " }}",
    "{{ " + " ~ ".join(["(1"] * 21) + ")" * 21 + " }}",
    "{{ " + "a" * 10_000 + " }}",
    "{{ 1 }}" + "x" * 300_000,
]


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_leads_out_of_the_sandbox(text: str) -> None:
    """Refused when it is compiled or when it is evaluated, with the expression named."""
    with pytest.raises(ExpressionError) as caught:
        render(compile_value(text, "t"), NAMES, "t")
    assert "in {{ " in str(caught.value)


@pytest.mark.parametrize("text", AMPLIFIERS)
def test_work_is_bounded(text: str) -> None:
    """Refused before time or memory is used up."""
    compiled = compile_value(text, "t")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(ExpressionError):
        render(compiled, NAMES, "t")
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 256 * 1024  # KiB


@pytest.mark.parametrize("text", PRODUCTS)
def test_work_that_is_a_product_of_sizes_is_bounded(text: str) -> None:
    """Refused before it is done: Python does it in one step, which no signal interrupts."""
    compiled = compile_value(text, "t")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    with pytest.raises(ExpressionError):
        render(compiled, NAMES, "t")
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 256 * 1024  # KiB


def test_searching_within_reason_is_allowed() -> None:
    """A long text for a short one, and a short text for a long one."""
    names = {"inputs": {"log": "some line\n" * 100_000, "part": "some line\n" * 200, "map": {"k": [1]}}}
    for text in (
        "{{ 'some line' in inputs.log }}",
        "{{ inputs.log.rfind('line') > 0 }}",
        "{{ inputs.part in (inputs.part ~ inputs.part) }}",
        "{{ 'k' in inputs.map and 'x' not in inputs.map }}",
        "{{ 1 < 2 <= 2 != 3 }}",
        "{{ not 2 < 1 < 3 }}",
        "{{ inputs.map == {'k': [1]} }}",
        "{{ [1, 'a', 'A', 1] | unique | list == [1, 'a'] }}",
        "{{ 4 is even and 9 is divisibleby 3 and 'a' is lower and 1 is in([1]) }}",
        "{{ inputs.log | wordwrap(79) | length > 0 }}",
        "{{ inputs.map | tojson(2) == '{\n  \"k\": [\n    1\n  ]\n}' }}",
        "{{ [1, 2, 1].count(1) == 2 and 'ff' | int(0, 16) == 255 }}",
    ):
        assert render(compile_value(text, "t"), names, "t") is True, text


def test_the_number_of_expressions_is_bounded() -> None:
    """In one value, and in all that are compiled together."""
    texts = ["{{ 1 }}"] * MAX_EXPRESSIONS
    compile_value(texts, "t")
    with pytest.raises(ExpressionError, match="more than 5,000 expressions"):
        compile_value("".join([*texts, "{{ 1 }}"]), "t")
    with bounded_compilation():
        compile_value(texts, "t")
        with pytest.raises(ExpressionError, match="more than 5,000 expressions"):
            compile_value("{{ 1 }}", "t")


def test_an_expression_that_is_repeated_is_compiled_once() -> None:
    """Otherwise a thousand of these take a second."""
    began = time.process_time()
    compile_value(["{{ " + " ~ ".join(["inputs.text"] * 50) + " }}"] * 4000, "t")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", DEEP)
def test_depth_and_length_are_bounded(text: str) -> None:
    """A clear error, not a crash."""
    with pytest.raises(ExpressionError):
        render(compile_value(text, "t"), NAMES, "t")


def test_the_values_of_the_run_cannot_be_changed() -> None:
    """Whatever an expression does, its names stay as they are."""
    names: dict[str, Any] = {"inputs": {"d": {"a": 1}, "l": [2, 1]}}
    for text in ("{{ inputs.d.pop('a') }}", "{{ inputs.l.reverse() }}", "{{ inputs.d.setdefault('b', 1) }}"):
        with pytest.raises(ExpressionError):
            render(compile_value(text, "t"), names, "t")
    assert render(compile_value("{{ inputs.l | sort }}", "t"), names, "t") == [1, 2]
    assert names == {"inputs": {"d": {"a": 1}, "l": [2, 1]}}


def test_a_text_may_become_as_long_as_the_limit_and_no_longer() -> None:
    """`MAX_RESULT` characters."""
    names = {"inputs": {"text": "x" * (MAX_RESULT - 1)}}
    assert len(render(compile_value("y{{ inputs.text }}", "t"), names, "t")) == MAX_RESULT
    with pytest.raises(ExpressionError, match="longer than"):
        render(compile_value("yy{{ inputs.text }}", "t"), names, "t")


def test_all_texts_of_a_block_share_one_allowance() -> None:
    """Splitting the work over many inputs does not help."""
    compiled = compile_value(["{{ inputs.text | upper }}"] * 20, "t")
    with pytest.raises(ExpressionError, match=r"t\[\d+\]: it has more work"):
        render(compiled, NAMES, "t")


NAMESPACES = [
    "{{ each.__class__ }}",
    "{{ each['__class__'] }}",
    "{{ each.value.__class__.__mro__ }}",
    "{{ each.key.format(each) }}",
    "{{ each.update({'value': 1}) }}",
    "{{ blocks.__class__ }}",
    "{{ blocks.values() }}",
    "{{ blocks[inputs.name].outputs }}",
    "{{ blocks.first.__class__ }}",
    "{{ blocks.first.outputs.__class__.__base__.__subclasses__() }}",
    "{{ blocks.first.inputs.clear() }}",
    "{{ blocks.first.metadata.__class__ }}",
    "{{ blocks.first.status.__class__ }}",
    "{{ blocks.first['outputs']['__init__'].__globals__ }}",
    "{{ blocks.many.__class__ }}",
    "{{ blocks.many['0'].__class__ }}",
    "{{ blocks.many['__class__'].outputs }}",
    "{{ blocks.many.metadata.__init__.__globals__ }}",
    "{{ blocks.many.pop('0') }}",
    "{{ blocks.many | attr('__class__') }}",
    "{{ [blocks.many] | map(attribute='__class__') | list }}",
    "{{ metadata.__class__ }}",
    "{{ metadata.run_id.format(metadata) }}",
    "{{ metadata.started_at.__class__ }}",
    "{{ tmp.__class__ }}",
    "{{ tmp.encode() }}",
    "{{ tmp.format_map(inputs) }}",
    "{{ secrets }}",
    "{{ secrets.__class__ }}",
    "{{ secrets.TOKEN.__class__ }}",
    "{{ secrets.TOKEN.encode() }}",
    "{{ secrets.items() | list }}",
    "{{ secrets.get(inputs.name) }}",
    "{{ secrets[inputs.name] }}",
    "{{ secrets['TO' ~ 'KEN'] }}",
    "{{ secrets | list }}",
    "{{ secrets | dictsort }}",
    "{{ secrets | tojson }}",
    "{{ [secrets] | map(attribute='TOKEN') | list }}",
]

WITHOUT_BOUND = [
    "{{ range(10**9) }}",
    "{{ 'a' * 10**9 }}",
    "{{ 9**9**9**9**9 }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ ([[inputs.name] * 1000] * 1000) | tojson }}",
]

PLACES = {
    "input": {"inputs": {"give": "HERE"}},
    "part of an input": {"inputs": {"give": [{"deep": "a HERE"}]}},
    "input of items": {"for_each": [1, 2], "inputs": {"give": "HERE"}},
    "condition": {"condition": "HERE"},
    "condition of items": {"for_each": [1, 2], "condition": "{{ each.value and true }}HERE"},
    "for_each": {"for_each": "HERE"},
    "item": {"for_each": [1, "HERE"]},
    "file": {"outputs": {"file": {"path": "HERE"}}},
    "file of items": {"for_each": [1, 2], "outputs": {"file": {"path": "{{ each.key }}/HERE"}}},
    "nested input": {"type": "Workflow", "inputs": {"workflow": "places", "inputs": {"name": "HERE"}}},
    "nested name": {"type": "Workflow", "inputs": {"workflow": "HERE"}},
    "default": {},
    "output": {},
}
"""Every place that expressions may stand in: what a block has there, unless it is a place of the workflow."""

SCOPES = ["input of items", "condition", "for_each", "file of items", "nested input", "default", "output"]
"""Those of them that differ in what can be read there."""


def _replaced(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return value.replace("HERE", text) if isinstance(value, str) else value


async def _what_is_said(place: str, text: str) -> str:
    """Why a workflow with an expression in a place cannot be loaded, begun or finished."""
    hostile = {"id": "hostile", "type": "Probe", "depends_on": ["first", "many"], **_replaced(PLACES[place], text)}
    definition = {
        "name": "places",
        "inputs": {"name": {"default": "x"}, "late": {"default": text if place == "default" else "x"}},
        "blocks": [{"id": "first", "type": "Probe"}, {"id": "many", "type": "Probe", "for_each": [1]}, hostile],
        "outputs": {"out": {"value": {"deep": text if place == "output" else "x"}}},
    }
    try:
        result = await WorkflowExecutor().execute_workflow(json.dumps(definition) + "\n")
    except WorkflowDefinitionError as error:
        return str(error)
    return result.error or ""


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("place", SCOPES)
async def test_no_place_of_a_workflow_leads_out(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be read there, with the expression named and no secret shown."""
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", "tok-0123456789")
    for text in NAMESPACES:
        said = await _what_is_said(place, text)
        assert "in {{ " in said, text
        assert "tok-0123456789" not in said


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("place", PLACES)
async def test_work_is_bounded_in_every_place(place: str) -> None:
    """With the expression named."""
    began = time.process_time()
    for text in WITHOUT_BOUND:
        assert "in {{ " in await _what_is_said(place, text), text
    assert time.process_time() - began < 5


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("place", ["defaults", "outputs", "inputs"])
async def test_what_stands_side_by_side_shares_one_allowance(place: str) -> None:
    """Splitting the work over many defaults, outputs or inputs does not help."""
    texts = {f"n{number}": "{{ 'x' * 4000000 }}" for number in range(20)}
    definition = {
        "name": "many",
        "inputs": {name: {"default": text} for name, text in texts.items()} if place == "defaults" else {},
        "blocks": [{"id": "a", "type": "Probe", "inputs": {"give": texts if place == "inputs" else None}}],
        "outputs": texts if place == "outputs" else {},
    }
    try:
        said = (await WorkflowExecutor().execute_workflow(json.dumps(definition) + "\n")).error
    except WorkflowDefinitionError as error:
        said = str(error)
    assert "more work to do than expressions may" in (said or "")
