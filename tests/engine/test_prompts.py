"""What a `Prompt` takes for an answer, and what a `Workflow` asks for."""

import time
from typing import Any

import pytest
from pydantic import ValidationError

from tests.engine.probe import text
from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockContext, BlockFailedError, Call
from workflows_mcp.engine.blocks.prompt import MAX_TIMEOUT_SECONDS, Prompt, PromptInputs
from workflows_mcp.engine.blocks.workflow import Workflow, WorkflowInputs
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.plan import plan_workflow
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.errors import WorkflowDefinitionError

CONTEXT = BlockContext(workflow_name="w", run_id="r", block_id="b")


def asking(**inputs: Any) -> dict[str, Any]:
    """A `Prompt` block as it stands in a workflow."""
    return {"id": "ask", "type": "Prompt", "inputs": {"prompt": "Well?", **inputs}}


def answered(response: str, **inputs: Any) -> str:
    """What is taken when a prompt is answered so."""
    outputs = Prompt().answer(response, PromptInputs(prompt="Well?", **inputs))
    assert outputs.keys() == {"response"}
    return str(outputs["response"])


@pytest.mark.parametrize(
    ("response", "choices", "taken"),
    [
        ("yes", ["yes", "no"], "yes"),
        (" YES\n", ["yes", "no"], "yes"),
        ("straSSE", ["Straße", "Weg"], "Straße"),
        ("true", [True, False], "True"),
        ("2", [1, 2], "2"),
        ("Yes", ["yes", "Yes"], "Yes"),
        (" a", ["a", " a"], " a"),
        ("a\0", ["a\0"], "a\0"),
    ],
)
def test_an_answer_that_means_a_choice_is_that_choice(response: str, choices: list[object], taken: str) -> None:
    """Whatever its case and the white space around it; the very text goes first."""
    assert answered(response, choices=choices) == taken


@pytest.mark.parametrize("response", ["", "maybe", "ye", "yes no", "YES"])
def test_an_answer_that_means_no_choice_or_several_is_refused(response: str) -> None:
    """The error lists the choices, not the answer."""
    with pytest.raises(ValueError, match=r"^the answer must be one of: yes, no, Yes$"):
        answered(response, choices=["yes", "no", "Yes"])


def test_of_many_choices_the_first_are_shown() -> None:
    """An error is made to be read."""
    with pytest.raises(ValueError, match=r"^the answer must be one of: 0, 1, .*, 19 and 30 more$"):
        answered("x", choices=list(range(50)))


def test_without_rules_any_answer_is_taken_as_it_is() -> None:
    """Not even trimmed."""
    for response in ("", " x ", "a\0\n", "{{ 1 }}"):
        assert answered(response) == response


@pytest.mark.parametrize(
    ("pattern", "fit", "unfit"),
    [
        (r"v\d+", "v12", ["xv12", "v12x", "v12\n", "\nv12", "V12", ""]),
        (r"a|b", "b", ["ab", "ax", "xb"]),
        (r"^a$", "a", ["a\n", "b"]),
        (r"(?m)^a$", "a", ["a\nb", "b\na"]),
        (r"(?i)yes", "YES", ["yess"]),
        (r"", "", ["x"]),
    ],
)
def test_the_whole_answer_must_match_the_pattern(pattern: str, fit: str, unfit: list[str]) -> None:
    """From its first character to its last, a line break included."""
    assert answered(fit, pattern=pattern) == fit
    for response in unfit:
        with pytest.raises(ValueError, match=r"^the answer must match the pattern ") as caught:
            answered(response, pattern=pattern)
        assert str(caught.value) == f"the answer must match the pattern {pattern}"
        assert caught.value.__context__ is None


def test_a_pattern_takes_time_that_is_linear_in_the_answer() -> None:
    """Python's `re` would take longer than the universe has."""
    start = time.perf_counter()
    with pytest.raises(ValueError, match="must match"):
        answered("a" * 2**20, pattern=r"(a+)+b")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"pattern": "(a"}, "inputs.pattern: it is no regular expression .*: unclosed group"),
        ({"pattern": "a)|(?:b"}, "inputs.pattern: it is no regular expression .*: unopened group"),
        ({"pattern": "(?=a)"}, "inputs.pattern: it is no regular expression .*: look-around"),
        ({"pattern": "(a{1000}){1000}"}, "inputs.pattern: .*: Compiled regex exceeds size limit"),
        ({"pattern": "a", "choices": ["a"]}, "inputs.pattern: there are choices already"),
        ({"choices": []}, "inputs.choices: List should have at least 1 item"),
        ({"choices": ["a", "b", "a"]}, "inputs.choices: a choice stands here twice"),
        ({"choices": ["1", 1]}, "inputs.choices: a choice stands here twice"),
        ({"choices": [""]}, "inputs.choices.0: a choice must not be empty"),
        ({"choices": "yes"}, "inputs.choices: Input should be a valid list"),
        ({"timeout_seconds": 5}, "inputs.default: default and timeout_seconds stand together"),
        ({"default": "x"}, "inputs.default: default and timeout_seconds stand together"),
        ({"default": "x", "timeout_seconds": 0}, "inputs.timeout_seconds: Input should be greater than 0"),
        ({"default": "x", "timeout_seconds": ".inf"}, "inputs.timeout_seconds: "),
        ({"default": "x", "timeout_seconds": 4e8}, "inputs.timeout_seconds: Input should be less than or equal to"),
        (
            {"default": "x", "timeout_seconds": 5, "choices": ["yes", "no"]},
            "inputs.default: the default must be one of: yes, no",
        ),
        (
            {"default": "x", "timeout_seconds": 5, "pattern": "y"},
            "inputs.default: the default must match the pattern y",
        ),
    ],
)
def test_a_prompt_that_could_never_be_answered_is_refused(inputs: dict[str, Any], message: str) -> None:
    """When the workflow is loaded, with the name of the input."""
    with pytest.raises(WorkflowDefinitionError, match=message):
        plan_workflow(read_workflow(text(asking(**inputs))))


def test_infinite_and_undefined_times_are_refused() -> None:
    """JSON has neither, but an expression might make one."""
    for seconds in (float("inf"), float("nan")):
        with pytest.raises(ValidationError):
            PromptInputs(prompt="Well?", timeout_seconds=seconds, default="x")
    assert PromptInputs(prompt="Well?", timeout_seconds=MAX_TIMEOUT_SECONDS, default="x").default == "x"


async def test_a_pause_tells_whoever_asks_what_may_be_answered() -> None:
    """What was given, and nothing else; the default is the choice that it means."""
    prompt = Prompt()
    assert (await prompt.run(PromptInputs(prompt="Well?"), CONTEXT)).metadata == {}
    pause = await prompt.run(PromptInputs(prompt="Well?", pattern="a+"), CONTEXT)
    assert (pause.prompt, pause.metadata) == ("Well?", {"pattern": "a+"})
    inputs = PromptInputs(prompt="Well?", choices=["yes", "no"], timeout_seconds=60, default=" No")
    assert (await prompt.run(inputs, CONTEXT)).metadata == {
        "choices": ["yes", "no"],
        "timeout_seconds": 60.0,
        "default": "no",
    }


async def test_rules_that_come_from_expressions_are_checked_when_they_are_known(store: InMemoryCheckpointStore) -> None:
    """Not before: what stands in the file is no choice yet."""
    executor = WorkflowExecutor(store)
    for rules in (
        {"choices": ["{{ inputs.it }}", "no"]},
        {"choices": "{{ [inputs.it, 'no'] }}"},
        {"pattern": "{{ inputs.it }}"},
        {"pattern": "[{{ inputs.it }}]+"},
    ):
        workflow = text(asking(default="yes", timeout_seconds=60, **rules), inputs={"it": {}})
        assert (await executor.execute_workflow(workflow, {"it": "yes"})).is_paused
        refused = await executor.execute_workflow(workflow, {"it": "k"})
        assert "inputs.default: the default must " in str(refused.error)
    workflow = text(asking(pattern="{{ inputs.it }}"), inputs={"it": {}})
    assert "no regular expression" in str((await executor.execute_workflow(workflow, {"it": "("})).error)


async def test_braces_in_rendered_choices_do_not_hide_a_bad_default() -> None:
    """They look like an expression that is not rendered yet."""
    inputs = PromptInputs(prompt="Well?", choices=["{{", "no"], timeout_seconds=60, default="x")
    with pytest.raises(BlockFailedError, match=r"^inputs.default: the default must be one of: {{, no$"):
        await Prompt().run(inputs, CONTEXT)


async def test_a_run_waits_on_after_an_unfit_answer(store: InMemoryCheckpointStore) -> None:
    """Nothing is saved; the next answer is taken, in another process too."""
    workflow = text(asking(choices=["yes", "{{ 'no' }}"]), outputs={"said": "{{ blocks.ask.outputs.response }}"})
    result = await WorkflowExecutor(store).execute_workflow(workflow)
    before = await store.list_checkpoints()
    checkpoint_id = result.checkpoint_id
    assert checkpoint_id is not None
    with pytest.raises(ValueError, match="the answer must be one of: yes, no"):
        await WorkflowExecutor(store).resume_workflow(checkpoint_id, "maybe")
    assert await store.list_checkpoints() == before
    answered = await WorkflowExecutor(store).resume_workflow(checkpoint_id, "NO ")
    assert answered.outputs == {"said": "no"}


async def test_a_workflow_block_asks_for_another_workflow() -> None:
    """By name, with its inputs; what runs it is the executor's business."""
    assert isinstance(BLOCK_TYPES["Workflow"], Workflow)
    given = WorkflowInputs(workflow="other", inputs={"n": [1, {"a": None}]})
    assert await Workflow().run(given, CONTEXT) == Call("other", {"n": [1, {"a": None}]})
    assert await Workflow().run(WorkflowInputs(workflow="other"), CONTEXT) == Call("other", {})
    with pytest.raises(ValidationError):
        WorkflowInputs.model_validate({"workflow": "other", "input": {}})
