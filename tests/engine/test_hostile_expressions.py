"""Expressions that try to get out, or to use the machine up."""

import resource
import time
from typing import Any

import pytest

from workflows_mcp.engine.expressions import MAX_RESULT, ExpressionError, compile_value, render

NAMES: dict[str, Any] = {
    "inputs": {"text": "x" * 2**20, "items": list(range(500_000)), "short": "abc", "lines": "\n" * 2**20},
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
