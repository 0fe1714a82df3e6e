"""What expressions give."""

from typing import Any

import pytest

from workflows_mcp.engine.expressions import ExpressionError, compile_value, references_in, render

NAMES: dict[str, Any] = {
    "inputs": {"n": 3, "flag": True, "names": ["a", "b c"], "map": {"k": {"items": [1, 2]}}, "none": None, "text": "x"},
    "blocks": {
        "a": {"outputs": {"stdout": "out\n", "items": 5, "upper": "v"}, "succeeded": True, "status": "succeeded"}
    },
    "metadata": {"workflow_name": "w", "run_id": "r"},
}


def value_of(text: Any) -> Any:
    """The value of a text."""
    return render(compile_value(text, "t"), NAMES, "t")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ inputs.n }}", 3),
        ("{{ inputs.n + 0.5 }}", 3.5),
        ("{{ inputs.flag }}", True),
        ("{{ inputs.none }}", None),
        ("{{ inputs.names }}", ["a", "b c"]),
        ("{{ inputs.map }}", {"k": {"items": [1, 2]}}),
        ("{{ inputs['map']['k'] }}", {"items": [1, 2]}),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ inputs.map.items() }}", [["k", {"items": [1, 2]}]]),
        ("{{ inputs.names | map('upper') }}", ["A", "B C"]),
        (" {{ inputs.n }}", " 3"),
        ("n={{ inputs.n }}, flag={{ inputs.flag }}, none={{ inputs.none }}", "n=3, flag=True, none=None"),
        ("{{ inputs.names }}!", "['a', 'b c']!"),
        ("{{ 'a' }}{{ 'b' }}", "ab"),
        ("a\r\nb {{ 1 }}\r\n", "a\r\nb 1\r\n"),
        ("{{ inputs.n\n * 2 }}", 6),
        ("{{ '}}' }}", "}}"),
        ("{{ '{{' }} {{ '{%' }} {{ \"%}\" }}", "{{ {% %}"),
        ("{{ {'a': {'b': 1}}['a']['b'] }}", 1),
        ("${#array[@]} }} %} {#", "${#array[@]} }} %} {#"),
        ("{{ 1 }}${#array} {# no comment #}", "1${#array} {# no comment #}"),
        ("{{ inputs.names | map('shquote') | join(' ') }}", "a 'b c'"),
        ('{{ "it\'s" | shquote }}', "'it'\"'\"'s'"),
        ("{{ 3 | shquote }}", "3"),
        ("{{ inputs.map | tojson }}", '{"k": {"items": [1, 2]}}'),
        ("{{ '<&>' | tojson }}", '"<&>"'),
        ("{{ 'a' ~ 1 ~ none }}", "a1None"),
        ("{{ 'abcdef'[1:4] ~ 'abc'[::-1] }}", "bcdcba"),
        ("{{ inputs.names[0] }}", "a"),
        ("{{ ', '.join(inputs.names) }}", "a, b c"),
        ("{{ inputs.names | join('+') | replace('a', 'z') }}", "z+b c"),
        ("{{ 'x' if inputs.flag else 'y' }}", "x"),
        ("{{ blocks.a.outputs.stdout | trim }}", "out"),
        ("{{ blocks.a.outputs.items }}", 5),
        ("{{ blocks.a.outputs.upper }}", "v"),
        ("{{ blocks.a.outputs.get('gone', 'd') }}", "d"),
        ("{{ inputs.gone | default('d') }}", "d"),
        ("{{ inputs.gone is defined }}", False),
        ("{{ blocks.a.succeeded and metadata.run_id == 'r' }}", True),
        ("{{ '<b>' | e }}", "&lt;b&gt;"),
        ("{{ [3, 1, 2] | sort | first }}", 1),
        ("{{ [1, 2, 3] | sum }}", 6),
        ("{{ ['a', 'b'] | batch(linecount=1) }}", [["a"], ["b"]]),
        ("{{ 'a\nb' | indent(width=2, first=true) }}", "  a\n  b"),
        ("{{ 2 ** 10 }}", 1024),
        ("{{ 'ab' * 2 }}", "abab"),
        ("{{ -inputs.n // 2 }}", -2),
        ({"a": ["{{ inputs.n }}", {"b": "{{ inputs.flag }}"}], "c": 1.5}, {"a": [3, {"b": True}], "c": 1.5}),
    ],
)
def test_an_expression_gives(text: Any, value: Any) -> None:
    """One expression keeps its type; within a text it becomes text."""
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_a_rendered_value_shares_nothing_with_what_it_was_made_of() -> None:
    """Lists of the definition and of other blocks' outputs are copied."""
    compiled = compile_value({"own": [1], "read": "{{ inputs.names }}"}, "t")
    first = render(compiled, NAMES, "t")
    first["own"].append(2)
    first["read"].append("c")
    assert render(compiled, NAMES, "t") == {"own": [1], "read": ["a", "b c"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ inputs.gone }}", "t: inputs.gone is undefined, in {{ inputs.gone }}"),
        ("{{ inputs.gone.further }}", "t: inputs.gone is undefined, in {{ inputs.gone.further }}"),
        ("a {{ inputs.gone }} b", "t: inputs.gone is undefined, in {{ inputs.gone }}"),
        ("{{ inputs.gone + 1 }}", "t: inputs.gone is undefined, in {{ inputs.gone + 1 }}"),
        ("{{ [inputs.gone] }}", "t: inputs.gone is undefined, in {{ [inputs.gone] }}"),
        (
            "{{ inputs[inputs.text] }}",
            "t: something in it is undefined, or may not be used, in {{ inputs[inputs.text] }}",
        ),
        ("{{ inputs.text + 1 }}", "t: + does not take str and int, in {{ inputs.text + 1 }}"),
        ("{{ 1 // 0 }}", "t: it ends in a ZeroDivisionError, in {{ 1 // 0 }}"),
        ("{{ inputs.text() }}", "t: it ends in a TypeError, in {{ inputs.text() }}"),
        ("{{ {1: 2} }}", "t: a dict with keys of type int is not JSON, only text is, in {{ {1: 2} }}"),
        ("{{ 1 if inputs.flag is none else 'give a flag' | fail }}", "t: give a flag, in {{ 1 if"),
        ("{{ ('x' * 2000) | fail }}", f"t: {'x' * 1000}, in {{{{"),
        ("{{ inputs.names | shquote }}", "t: shquote takes text or a number, not list; "),
    ],
)
def test_an_error_names_the_place_and_the_expression(text: str, message: str) -> None:
    """And says what is wrong in words."""
    with pytest.raises(ExpressionError) as caught:
        value_of(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "{{ [1] | map(inputs.secret) | list }}",
        "{{ inputs[inputs.secret] }}",
        "{{ inputs.secret.x }}",
        "{{ inputs.secret + 1 }}",
    ],
)
def test_an_error_shows_no_value(text: str) -> None:
    """Neither in its message nor in what is chained to it."""
    names = {"inputs": {"secret": "hunter2"}}
    with pytest.raises(ExpressionError) as caught:
        render(compile_value(text, "t"), names, "t")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ inputs. }}", "syntax error"),
        ("{{ }}", "syntax error"),
        ("{{ a b }}", "it goes on after its end"),
        ("{{ inputs.n", "not closed by }}"),
        ("{{ 'text }}", "syntax error"),
        ("{{ x | nope }}", "there is no filter 'nope'"),
        ("{{ x is nope }}", "there is no test 'nope'"),
        ("{{ 1 if true else (x | nope) }}", "there is no filter 'nope'"),
        ("{% if x %}a{% endif %}", "{% is refused"),
        ("a {% b {{ 1 }}", "{% is refused"),
        ("{{- 1 }}", "refused"),
        ("{{ 1 -}}", "refused"),
        ("{{ x = 1 }}", "goes on after its end"),
        ("{{ " + "9" * 5000 + " }}", "a number in it is too long"),
        ({"{{ key }}": 1}, "a key must not hold an expression"),
    ],
)
def test_a_broken_expression_is_refused_when_it_is_compiled(text: Any, message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ExpressionError) as caught:
        compile_value(text, "t")
    assert message in str(caught.value)


def test_what_expressions_read_is_known_before_they_run() -> None:
    """As far as the names are written out."""
    text = "{{ blocks.a.outputs['x'][inputs.k] }} {{ [metadata, foo(blocks['b'].status)] }} {{ range(2) }}"
    found = {reference for _, reference in references_in(compile_value({"k": [text]}, "t"), "t")}
    assert found == {
        ("blocks", "a", "outputs", "x"),
        ("inputs", "k"),
        ("metadata",),
        ("foo",),
        ("blocks", "b", "status"),
    }
