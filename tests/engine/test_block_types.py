"""Block types out of functions, and who may register what."""

import asyncio
import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, Field, ValidationError

from tests.engine.probe import text
from workflows_mcp import block_type
from workflows_mcp.engine.blocks import (
    BLOCK_TYPES,
    BlockContext,
    BlockFailedError,
    BlockInputs,
    BlockType,
    Call,
    Pause,
    block_type_names,
    find_block_type,
    register,
)
from workflows_mcp.engine.blocks.python import FunctionBlock
from workflows_mcp.engine.blocks.registry import BlockTypes
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult

CONTEXT = BlockContext(workflow_name="w", run_id="r", block_id="b")


@pytest.fixture(autouse=True)
def registered_here() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(BLOCK_TYPES)
    yield
    for name in set(BLOCK_TYPES) - set(before):
        del BLOCK_TYPES[name]


def a(block_type: str, **inputs: Any) -> dict[str, Any]:
    """A block as it stands in a workflow, with the id `a`."""
    return {"id": "a", "type": block_type, "inputs": inputs}


async def call(function: Any, **inputs: Any) -> Any:
    """What a function gives as a block."""
    made = FunctionBlock("F", function)
    return await made.run(made.inputs.model_validate(inputs), CONTEXT)


async def execute(block: dict[str, Any]) -> WorkflowResult:
    """Run a workflow of this block, whose output `o` is all of the block's."""
    return await WorkflowExecutor().execute_workflow(text(block, outputs={"o": "{{ blocks.a.outputs }}"}))


async def test_a_function_is_a_block_type_and_stays_what_it_was() -> None:
    """Under the name that it is given, or its own."""

    @block_type("Upper")
    async def upper(text: str, times: int = 1) -> dict[str, Any]:
        return {"text": text.upper() * times}

    @block_type
    def lower(text: str) -> str:
        return text.lower()

    assert await upper("a", 2) == {"text": "AA"}
    assert lower("A") == "a"
    assert {"Upper", "lower"} <= set(block_type_names())
    assert (await execute(a("Upper", text="ab", times="{{ 1 + 1 }}"))).outputs == {"o": {"text": "ABAB"}}
    assert (await execute(a("lower", text="AB"))).outputs == {"o": {"result": "ab"}}


class Size(BaseModel):
    """A model of a user's own."""

    width: int


async def test_inputs_are_checked_and_converted_as_annotated() -> None:
    """Nothing at all is checked where nothing is annotated."""
    seen: list[Any] = []

    async def function(  # type: ignore[no-untyped-def] # noqa: ANN202
        anything,  # noqa: ANN001
        size: Size,
        count: Annotated[int, Field(ge=1)],
        *,
        names: "list[str]",
        json: bool = False,
    ):
        seen.extend([anything, size, count, names, json])

    block = FunctionBlock("F", function)
    given = {"anything": [None], "size": {"width": 3}, "count": "4", "names": ["x"], "json": "true"}
    assert await block.run(block.inputs.model_validate(given), CONTEXT) == {}
    assert seen == [[None], Size(width=3), 4, ["x"], True]
    unfits: tuple[dict[str, Any], ...] = ({"count": 0}, {"names": "x"}, {"size": {}}, {"more": 1})
    for unfit in unfits:
        with pytest.raises(ValidationError):
            block.inputs.model_validate({**given, **unfit})
    assert list(block.inputs.model_fields) == ["anything", "size", "count", "names", "json"]


async def test_a_wrong_input_is_told_when_the_workflow_is_loaded() -> None:
    """By the function's own names."""

    @block_type
    async def ship(to: str) -> None: ...

    for inputs, message in (
        ({}, "inputs.to is missing"),
        ({"to": "x", "too": 1}, "inputs.too is unknown; ship takes to"),
        ({"to": [1]}, "inputs.to: Input should be a valid string"),
    ):
        with pytest.raises(Exception, match=message):
            WorkflowExecutor().load_workflow(text(a("ship", **inputs)))


async def test_a_mutable_default_is_fresh_for_every_block() -> None:
    """Unlike Python's own."""

    async def function(items: list[int] = []) -> list[int]:  # noqa: B006 - that is the point
        items.append(1)
        return items

    assert await call(function) == await call(function) == {"result": [1]}


async def test_the_context_is_given_and_is_no_input() -> None:
    """To sync and async functions, whatever the parameter is called."""

    async def function(where: BlockContext, n: int) -> str:
        return f"{where.block_id}{n}"

    def in_thread(n: int, *, context: "BlockContext") -> str:
        return f"{context.run_id}{n}"

    assert await call(function, n=1) == {"result": "b1"}
    assert await call(in_thread, n=1) == {"result": "r1"}
    with pytest.raises(ValidationError):
        await call(function, n=1, where=CONTEXT)


@pytest.mark.parametrize(
    ("returned", "outputs"),
    [
        (None, {}),
        ({}, {}),
        ({"a": 1}, {"a": 1}),
        ("x", {"result": "x"}),
        ([], {"result": []}),
        (0, {"result": 0}),
        (Pause("?"), Pause("?")),
        (Call("w", {}), Call("w", {})),
    ],
)
async def test_what_is_returned_becomes_the_outputs(returned: object, outputs: object) -> None:
    """By a sync and an async function alike."""

    async def function() -> object:
        return returned

    assert await call(function) == outputs
    assert await call(lambda: returned) == outputs


async def test_a_function_that_raises_fails_its_block() -> None:
    """With its error; what ends processes and what no future can hold, too."""

    @block_type
    def fail(how: str) -> None:
        raise {
            "value": ValueError("no luck"),
            "stop": StopIteration(),
            "exit": SystemExit(3),
            "block": BlockFailedError("because", {"n": 1}),
        }[how]

    @block_type
    async def leave() -> None:
        sys.exit("bye")

    async with asyncio.timeout(5):
        for block, error in (
            (a("fail", how="value"), "ValueError: no luck"),
            (a("fail", how="stop"), "RuntimeError: StopIteration"),
            (a("fail", how="exit"), "it asked the process to exit (3)"),
            (a("fail", how="block"), "because"),
            (a("leave"), "it asked the process to exit (bye)"),
        ):
            result = await execute(block)
            assert (result.status, result.error) == ("failure", f"block 'a' failed: {error}")


async def test_a_pause_of_a_function_is_answered() -> None:
    """The answer is an output."""

    @block_type
    async def ask(what: str) -> Pause:
        return Pause(what)

    executor = WorkflowExecutor()
    workflow = text(a("ask", what="Well?"), outputs={"o": "{{ blocks.a.outputs.response }}"})
    result = await executor.execute_workflow(workflow)
    assert result.prompt == "Well?"
    assert (await executor.resume_workflow(result.checkpoint_id or "", "yes")).outputs == {"o": "yes"}


async def test_sync_functions_run_in_threads() -> None:
    """At the same time, and the event loop goes on."""
    both = threading.Barrier(2, timeout=5)

    def function() -> bool:
        both.wait()
        return threading.current_thread() is not threading.main_thread()

    assert list(await asyncio.gather(call(function), call(function))) == [{"result": True}] * 2


async def test_cancellation_waits_for_a_sync_function() -> None:
    """It cannot be stopped, and must not work on behind a run that somebody else may take over."""
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def function() -> None:
        started.set()
        go_on.wait(5)
        done.set()

    block = asyncio.create_task(call(function))
    await asyncio.to_thread(started.wait, 5)
    block.cancel()
    await asyncio.sleep(0.01)
    assert not block.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await block
    assert done.is_set()


class Greeter:
    """A callable object."""

    async def __call__(self, name: str) -> str:
        """Greets."""
        return f"hi {name}"


async def test_anything_that_is_called_like_a_function_will_do() -> None:
    """Partial functions, callable objects, decorated ones, and sync ones that give something to await."""

    async def add(one: int, two: int) -> int:
        return one + two

    @functools.wraps(add)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return add(*args, **kwargs)

    assert await call(functools.partial(add, two=5), one=1) == {"result": 6}
    assert await call(Greeter(), name="Ada") == {"result": "hi Ada"}
    assert await call(wrapped, one=1, two=2) == {"result": 3}
    with pytest.raises(TypeError, match="has no name of its own"):
        block_type(Greeter())
    block_type("Greeter")(Greeter())
    assert "Greeter" in BLOCK_TYPES


def _positional(a: int, /) -> None: ...
def _many(*args: int) -> None: ...
def _named(**kwargs: int) -> None: ...
def _unresolvable(a: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821
def _unresolvable_inside(a: list["Nowhere"]) -> None: ...  # type: ignore[name-defined] # noqa: F821
def _uncheckable(a: threading.Thread) -> None: ...
def _hidden(_a: int) -> None: ...
def _of_models(model_config: int) -> None: ...
def _unfit_pattern(a: Annotated[str, Field(pattern="(")]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_positional, "function _positional cannot be a block type: a: int cannot be given by name"),
        (_many, r"\*args: int cannot be given by name"),
        (_named, r"\*\*kwargs: int cannot be given by name"),
        (_unresolvable, "its signature cannot be read: name 'Nowhere' is not defined"),
        (_unresolvable_inside, "its parameters cannot be checked: .*Nowhere"),
        (_uncheckable, "its parameters cannot be checked: .*Thread"),
        (_hidden, "an input cannot have the name '_a'"),
        (_of_models, "an input cannot have the name 'model_config'"),
        (_unfit_pattern, "its parameters cannot be checked"),
        (Greeter, "is no function"),
        (5, "has no name of its own"),
    ],
)
def test_what_cannot_be_a_block_type_is_refused_when_it_is_registered(function: Any, message: str) -> None:
    """With the reason; nothing is registered."""
    before = block_type_names()
    with pytest.raises(TypeError, match=message):
        block_type(function)
    with pytest.raises(TypeError):
        block_type("Name")(function)
    assert block_type_names() == before


class Give(BlockType[BlockInputs]):
    """A block type as a class."""

    name: ClassVar[str] = "Give"
    inputs = BlockInputs

    async def run(self, inputs: BlockInputs, context: BlockContext) -> dict[str, Any]:
        """See `BlockType.run`."""
        return {"inputs": inputs.model_dump(), "block": context.block_id}


async def test_an_object_of_a_class_is_registered_and_found() -> None:
    """By its name; the class itself is refused, and so is a name that is none."""
    assert find_block_type("Give") is None
    give = Give()
    register(give)
    assert find_block_type("Give") is give
    assert (await execute(a("Give"))).outputs == {"o": {"inputs": {}, "block": "a"}}
    with pytest.raises(TypeError, match="an object of a subclass of BlockType"):
        register(Give)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a block type's name"):
        block_type("")(lambda: None)


def test_a_name_is_taken_once_and_the_same_code_may_come_again() -> None:
    """As it does when a module is reloaded."""
    types = BlockTypes(Give())
    again = Give()
    types.register(again)
    assert types["Give"] is again
    with pytest.raises(ValueError, match=r"the block type 'Give' is .*test_block_types.Give already, and cannot be"):
        types.register(FunctionBlock("Give", _one))
    first, second = FunctionBlock("One", _one), FunctionBlock("One", _one)
    types.register(first)
    types.register(second)
    assert types["One"] is second
    with pytest.raises(ValueError, match="choose another name"):
        types.register(FunctionBlock("One", _two))
    with pytest.raises(ValueError, match="the block type 'Shell' is"):
        block_type("Shell")(_one)


def _one() -> None: ...
def _two() -> None: ...


def test_of_two_threads_that_want_a_name_one_gets_it() -> None:
    """And nobody who lists the names meanwhile is disturbed."""
    rivals = [FunctionBlock("Taken", _one), FunctionBlock("Taken", _two)]
    others = [FunctionBlock(f"T{number}", _one) for number in range(20)]
    for _ in range(50):
        types = BlockTypes()
        with ThreadPoolExecutor(2) as threads:
            tries = [threads.submit(types.register, rival) for rival in rivals]
            for other in others:
                types.register(other)
                for name in types:
                    types.setdefault(f"{name[:2]}…", other)
        failures = [one.exception() for one in tries if one.exception() is not None]
        assert [type(failure) for failure in failures] == [ValueError]


ADDONS = """
import sys
from typing import Any, ClassVar
from workflows_mcp import block_type
from workflows_mcp.engine.blocks import BlockContext, BlockInputs, BlockType, find_block_type

print("loaded", file=sys.stderr)
assert find_block_type("Nobody") is None  # while it is being loaded

@block_type("Decorated")
async def decorated(n: int) -> int:
    return n + 1

async def plain(n: int) -> int:
    return n + 2

class OfClass(BlockType[BlockInputs]):
    name: ClassVar[str] = "OfClass"
    inputs = BlockInputs

    async def run(self, inputs: BlockInputs, context: BlockContext) -> dict[str, Any]:
        return {"result": "class"}

class OfObject(OfClass):
    name: ClassVar[str] = "OfObject"

of_object = OfObject()
number = 5
"""

ENTRIES = """
[workflows_mcp.blocks]
decorated = addons:decorated
Plain = addons:plain
OfClass = addons:OfClass
OfObject = addons:of_object
Shell = addons:plain
Number = addons:number
Gone = addons:gone
NoModule = no_such_addons
Exits = addons_exits
"""

USER = """
import asyncio, json
from workflows_mcp import WorkflowExecutor
from workflows_mcp.engine.blocks import BLOCK_TYPES, block_type_names, find_block_type

def use(name, **inputs):
    workflow = {"name": "w", "blocks": [{"id": "a", "type": name, "inputs": inputs}],
                "outputs": {"o": "{{ blocks.a.outputs.result }}"}}
    try:
        return asyncio.run(WorkflowExecutor().execute_workflow(json.dumps(workflow) + "\\n")).outputs["o"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"

found = {"before": sorted(BLOCK_TYPES._types)}
names = ("Plain", "Decorated", "decorated", "Number", "Gone", "NoModule", "Exits", "Nope")
found |= {name: use(name, n=1) for name in names}
found |= {name: use(name) for name in ("OfClass", "OfObject")}
found["shell"] = type(find_block_type("Shell")).__name__
found["names"] = block_type_names()
print(json.dumps(found))
"""


def test_installed_distributions_give_block_types_and_a_broken_one_disturbs_no_other(tmp_path: Path) -> None:
    """They are loaded once, when a name is looked up that nobody has; what is broken is told to its users."""
    (tmp_path / "addons.py").write_text(ADDONS)
    (tmp_path / "addons_exits.py").write_text("raise SystemExit(3)\n")
    metadata = tmp_path / "block_addons-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: block-addons\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    command = [sys.executable, "-c", USER]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    lines = done.stderr.splitlines()
    assert lines.count("loaded") == 1
    assert sum("cannot be used" in line for line in lines) == 5
    assert found.pop("before") == ["Prompt", "Shell", "Workflow"]
    assert {name: found.pop(name) for name in ("Plain", "Decorated", "decorated", "OfClass", "shell")} == {
        "Plain": 3,
        "Decorated": 2,
        "decorated": 2,
        "OfClass": "class",
        "shell": "Shell",
    }
    assert found.pop("OfObject") == "class"
    assert " ".join(found.pop("names")) == "Decorated OfClass OfObject Plain Prompt Shell Workflow decorated"
    assert "there is no block type 'Nope'; there are Decorated, OfClass" in found.pop("Nope")
    for name, problem in found.items():
        assert problem.startswith(
            f"WorkflowDefinitionError: workflow 'w': the block type {name!r} of the distribution 'block-addons' ("
        )
    assert "TypeError: it is neither a function nor a block type" in found["Number"]
    assert "AttributeError" in found["Gone"]
    assert "ModuleNotFoundError: No module named 'no_such_addons'" in found["NoModule"]
    assert "SystemExit: 3" in found["Exits"]
