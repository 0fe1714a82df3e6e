"""What is found to be wrong with a workflow before anything runs, and its waves."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.probe import Probe, block, shell, text
from workflows_mcp.engine.plan import plan_workflow
from workflows_mcp.engine.workflow import define_workflow, read_workflow
from workflows_mcp.errors import WorkflowDefinitionError


def waves_of(*blocks: dict[str, Any]) -> list[list[str]]:
    """The waves of a workflow of these blocks."""
    return [list(wave) for wave in plan_workflow(read_workflow(text(*blocks))).waves]


def test_a_wave_holds_what_can_run_at_the_same_time_in_the_order_of_the_definition() -> None:
    """Each block stands in the earliest wave that its dependencies allow."""
    found = waves_of(
        shell("z", "true"),
        shell("report", "true", "lint", "test"),
        shell("lint", "true", "z"),
        shell("test", "true", "z"),
        shell("a", "true"),
    )
    assert found == [["z", "a"], ["lint", "test"], ["report"]]


@settings(deadline=None)  # a busy machine is no fault of a plan
@given(st.data())
def test_every_block_stands_in_one_wave_after_all_that_it_depends_on(data: st.DataObject) -> None:
    """Whatever the graph, as long as it has no cycle."""
    count = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(count)))
    needs = {n: data.draw(st.sets(st.sampled_from(range(n)))) if n else set() for n in range(count)}
    found = waves_of(*(shell(f"b{n}", "true", *(f"b{need}" for need in needs[n])) for n in order))
    wave_of = {block_id: index for index, wave in enumerate(found) for block_id in wave}
    assert sorted(wave_of) == sorted(f"b{n}" for n in range(count))
    assert sum(map(len, found)) == count
    for n in range(count):
        assert wave_of[f"b{n}"] == max((wave_of[f"b{need}"] + 1 for need in needs[n]), default=0)


SHELL = {"id": "a", "type": "Shell", "inputs": {"command": "true"}}


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([SHELL, SHELL], "two blocks have the id 'a'"),
        ([shell("a", "true", "b"), shell("b", "true", "c"), shell("c", "true", "a")], "in a cycle: .*a.* -> "),
        ([shell("a", "true", "a")], "in a cycle: a -> a"),
        ([shell("a", "true", "nope")], "block 'a' depends on 'nope', which is no block; the blocks are a"),
        ([{"id": "a", "type": "Shel"}], "block 'a': there is no block type 'Shel'; there are .*Prompt, Shell"),
        ([{"id": "a", "type": "Shell"}], "block 'a': inputs.command is missing"),
        ([shell("a", "true", comand="x")], "inputs.comand is unknown; Shell takes command, working_dir"),
        ([shell("a", "true", comand="{{ 1 }}")], "inputs.comand is unknown"),
        ([shell("a", "true", timeout_seconds="soon")], "inputs.timeout_seconds: Input should be a valid number"),
        ([shell("a", "true", timeout_seconds=0)], "inputs.timeout_seconds: Input should be greater than 0"),
        ([shell("a", "true", env={"A=B": "x"})], "inputs.env.A=B: the name of a variable"),
        ([shell("a", "true", env=["A"])], "inputs.env: Input should be a valid dictionary"),
        (
            [{"id": "a", "type": "Shell", "inputs": {"command": ["true"]}}],
            "inputs.command: Input should be a valid string",
        ),
        ([shell("a", "a\0b")], "inputs.command: must not hold U\\+0000"),
        ([shell("a", "echo {{ inputs. }}")], "block 'a', inputs.command: syntax error: .*, in {{ inputs. }}"),
        ([shell("a", "x", env={"A": "{{ 1 | nope }}"})], "block 'a', inputs.env.A: there is no filter 'nope'"),
        ([shell("a", "{% if x %}")], "block 'a', inputs.command: {% is refused"),
        (
            [shell("a", "{{ inputs.nope }}")],
            "the workflow declares no input 'nope'; it declares who, in {{ inputs.nope }}",
        ),
        ([shell("a", "{{ nope }}")], "'nope' is not defined; there are inputs, blocks, metadata, secrets, tmp"),
        ([shell("a", "{{ secrets }}")], "secrets are read by name"),
        ([shell("a", "{{ metadata.nope }}")], "metadata has no 'nope'; it has run_id, started_at, workflow_name"),
        ([shell("a", "{{ blocks.nope.outputs.x }}")], "there is no block 'nope'; there are a"),
        ([shell("a", "{{ blocks.a.outputs.stdout }}")], "a block cannot read its own results"),
        (
            [SHELL, shell("b", "{{ blocks.a.outputs.stdout }}")],
            "it reads block 'a' without waiting for it: add 'a' to depends_on",
        ),
        ([SHELL, shell("b", "{{ blocks['a'].status }}")], "without waiting for it"),
        ([SHELL, shell("b", "{{ blocks | length }}", "a")], "blocks is read by id"),
        ([SHELL, shell("b", "{{ blocks[inputs.who].outputs }}", "a")], "blocks is read by id"),
        (
            [SHELL, shell("b", "{{ blocks.a.output.stdout }}", "a")],
            "blocks.a has no 'output'; it has failed, inputs, metadata, outputs",
        ),
        (
            [SHELL, shell("b", "{{ blocks.a.outputs.stdot }}", "a")],
            "block 'a' has no output 'stdot'; a Shell has exit_code",
        ),
        (
            [{**SHELL, "condition": "inputs.who == 'x'"}],
            "block 'a', condition: it is neither an expression nor true or false",
        ),
        ([{**SHELL, "condition": "{{ nope }}"}], "block 'a', condition: 'nope' is not defined"),
        (
            [SHELL, {**shell("b", "true"), "condition": "{{ blocks.a.succeeded }}"}],
            "block 'b', condition: it reads block 'a'",
        ),
    ],
)
def test_a_workflow_that_cannot_run_is_refused(blocks: list[dict[str, Any]], message: str) -> None:
    """With the block and the place."""
    definition = read_workflow(text(*blocks, inputs={"who": {"default": "x"}}))
    with pytest.raises(WorkflowDefinitionError, match=message) as caught:
        plan_workflow(definition)
    assert str(caught.value).startswith("workflow 'flow': ")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"o": "{{ blocks.nope.outputs }}"}, "outputs.o: there is no block 'nope'"),
        ({"o": "{{ blocks.a.outputs.nope }}"}, "outputs.o: block 'a' has no output 'nope'"),
        ({"o": "{{ "}, "outputs.o: the {{ is not closed"),
    ],
)
def test_outputs_are_checked_too(outputs: dict[str, str], message: str) -> None:
    """They may read every block."""
    with pytest.raises(WorkflowDefinitionError, match=message):
        plan_workflow(read_workflow(text(SHELL, outputs=outputs)))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"type": "num", "default": "many"}, r"input 'i' \(num\): its default must be a num, and is a str"),
        ({"type": "str", "default": 5}, r"its default must be a str, and is a int"),
        ({"default": "x", "required": True}, "is required and has a default"),
        ({"default": "{{ inputs.i }}"}, "input 'i', default: input 'i' is declared further down"),
    ],
)
def test_defaults_are_checked_too(declared: dict[str, Any], message: str) -> None:
    """A run that is given nothing must be able to begin."""
    with pytest.raises(WorkflowDefinitionError, match=message):
        plan_workflow(read_workflow(text(SHELL, inputs={"i": declared})))


def test_a_block_reads_what_it_depends_on_at_any_distance() -> None:
    """Not only its direct dependencies; `outputs.get` and an output named like a method are fine."""
    plan_workflow(
        read_workflow(
            text(
                SHELL,
                shell("b", "true", "a"),
                shell("c", "{{ blocks.a.outputs.stdout }}{{ blocks['b'].outputs.get('stdout') }}", "b"),
            )
        )
    )


def test_outputs_that_are_not_known_beforehand_are_not_refused(probe: Probe) -> None:
    """A block type may leave them open."""
    assert probe.output_names is None
    plan_workflow(read_workflow(text(block("a"), block("b", "a", give="{{ blocks.a.outputs.anything }}"))))


def test_a_workflow_has_a_bounded_number_of_expressions() -> None:
    """All its blocks together: each costs time to compile, and a file of the largest size could hold 200,000."""
    many = {f"V{number}": f"{{{{ {number} + 1 }}}}" for number in range(100)}
    blocks = [{"id": f"b{number}", "type": "Shell", "inputs": {"command": "true", "env": many}} for number in range(60)]
    with pytest.raises(WorkflowDefinitionError, match="5,000"):
        plan_workflow(define_workflow({"name": "many", "blocks": blocks}, "many"))


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Each problem on its own, of all blocks, inputs and outputs; the message shows the first few of them."""
    broken = text(
        shell("a", "{{ nope }}"), {"id": "b", "type": "Shell"}, {"id": "c", "type": "Shel"}, outputs={"x": "{{ 1 + }}"}
    )
    with pytest.raises(WorkflowDefinitionError) as caught:
        plan_workflow(read_workflow(broken))
    starts = [problem[:20] for problem in caught.value.problems]
    assert starts == ["block 'a', inputs.co", "block 'b': inputs.co", "block 'c': there is ", "outputs.x: syntax er"]
    assert all(problem in str(caught.value) for problem in caught.value.problems)

    with pytest.raises(WorkflowDefinitionError, match=r"'nope0'.*; and 4 more$") as caught:
        plan_workflow(read_workflow(text(*(shell(f"b{n}", "true", f"nope{n}") for n in range(9)))))
    assert len(caught.value.problems) == 9
