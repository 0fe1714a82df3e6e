"""Runs from their beginning to their end."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.probe import Probe, block, shell, text
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError


async def statuses(store: InMemoryCheckpointStore, run_id: str) -> list[tuple[str, int]]:
    """Status and wave of a run's checkpoints, oldest first."""
    return [(one.status.value, one.current_wave_index) for one in reversed(await store.list_checkpoints(run_id=run_id))]


async def records(store: InMemoryCheckpointStore, result: WorkflowResult) -> dict[str, Any]:
    """The blocks' records in a run's newest checkpoint."""
    assert result.checkpoint_id is not None
    state = await store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    return dict(state.context["blocks"])


async def test_a_workflow_runs_to_its_outputs(executor: WorkflowExecutor, tmp_path: Path) -> None:
    """Real commands, values of every kind passed along."""
    (tmp_path / "a b.txt").write_text("one\ntwo\n")
    file = tmp_path / "count.yaml"
    file.write_text(
        """
name: count
inputs:
  folder: {type: str}
  loud: {type: bool, default: false}
blocks:
  - id: list
    type: Shell
    inputs: {command: ls, working_dir: "{{ inputs.folder }}"}
  - id: count
    type: Shell
    depends_on: [list]
    inputs:
      command: "wc -l < {{ (blocks.list.outputs.stdout | trim).split('\\n')[0] | shquote }}"
      working_dir: "{{ inputs.folder }}"
      timeout_seconds: "{{ 10 + 5 }}"
  - id: shout
    type: Shell
    condition: "{{ inputs.loud }}"
    inputs: {command: echo HEY}
outputs:
  lines: "{{ blocks.count.outputs.stdout | int }}"
  shouted: "{{ blocks.shout.outputs.stdout if blocks.shout.succeeded else '' }}"
  sentence: "{{ inputs.folder }} in {{ metadata.workflow_name }}"
"""
    )
    result = await executor.execute_workflow(file, {"folder": str(tmp_path)})
    assert result.is_success
    assert result.outputs == {"lines": 2, "shouted": "", "sentence": f"{tmp_path} in count"}
    assert result.error is None
    assert result.to_dict().keys() == {"status", "outputs", "error", "run_id", "checkpoint_id", "prompt"}


async def test_a_checkpoint_is_saved_before_the_first_wave_after_every_wave_and_at_the_end(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """The first holds the inputs and the whole definition."""
    assert probe is not None
    workflow = text(block("a"), block("b", "a"), inputs={"n": {"type": "num"}}, outputs={"o": "{{ inputs.n }}"})
    result = await executor.execute_workflow(workflow, {"n": "5"})
    assert await statuses(store, result.run_id) == [("running", 0), ("running", 1), ("running", 2), ("completed", 2)]
    first = [state async for state in store.iter_checkpoints(run_id=result.run_id)][-1]
    assert first.runtime_inputs == {"n": 5}
    assert first.execution_waves == [["a"], ["b"]]
    assert first.block_definitions["b"] == {"id": "b", "type": "Probe", "depends_on": ["a"], "inputs": {}}
    (frame,) = first.workflow_stack
    assert frame == {
        "name": "flow",
        "inputs": {"n": {"type": "num"}},
        "outputs": {"o": "{{ inputs.n }}"},
        "blocks": ["a", "b"],
    }
    assert first.context["blocks"] == {}
    assert first.completed_blocks == []


async def test_a_record_tells_what_became_of_a_block(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """Its inputs as they were evaluated, its outputs, its times."""
    assert probe is not None
    workflow = text(block("a", give=[1]), block("b", "a", give="{{ blocks.a.outputs.value }}"))
    result = await executor.execute_workflow(workflow)
    found = await records(store, result)
    assert found["b"]["inputs"] == {"give": [1]}
    assert found["b"]["outputs"] == {"value": [1]}
    assert found["b"]["status"] == "succeeded"
    assert found["b"]["wave"] == 1
    assert found["a"]["started_at"] <= found["a"]["completed_at"] <= found["b"]["started_at"]
    assert result.checkpoint_id is not None
    state = await store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    assert state.completed_blocks == ["a", "b"]
    assert state.context["outputs"] == {}


async def test_the_blocks_of_a_wave_run_at_the_same_time(executor: WorkflowExecutor, probe: Probe) -> None:
    """All have started before one is let go."""
    probe.hold("a", "b", "c", started=3)
    run = asyncio.create_task(executor.execute_workflow(text(block("a"), block("b"), block("c"))))
    await probe.all_started.wait()
    assert probe.finished == []
    probe.release()
    assert (await run).is_success


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_every_block_runs_once_and_after_all_that_it_depends_on(
    monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    """Whatever the graph; unless something that it depends on failed or was skipped, and then it does not run."""
    from workflows_mcp.engine.blocks import BLOCK_TYPES

    probe = Probe()
    monkeypatch.setitem(BLOCK_TYPES, "Probe", probe)
    count = data.draw(st.integers(1, 8))
    needs = [data.draw(st.sets(st.sampled_from(range(n)))) if n else set() for n in range(count)]
    fates = [data.draw(st.sampled_from(["good", "good", "good", "bad", "off"])) for _ in range(count)]
    blocks = [
        block(
            f"b{n}",
            *(f"b{need}" for need in needs[n]),
            condition=fates[n] != "off",
            **({"fail": "broken"} if fates[n] == "bad" else {}),
        )
        for n in data.draw(st.permutations(range(count)))
    ]
    store = InMemoryCheckpointStore()
    result = await WorkflowExecutor(store).execute_workflow(text(*blocks))
    well: dict[int, bool] = {}
    ran: set[int] = set()
    for n in range(count):
        if all(well[need] for need in needs[n]) and fates[n] != "off":
            ran.add(n)
        well[n] = n in ran and fates[n] == "good"
    assert sorted(probe.started) == sorted(f"b{n}" for n in ran)
    for n in ran:
        for need in needs[n]:
            assert probe.started.index(f"b{need}") < probe.started.index(f"b{n}")
    assert result.is_success == (not any(fates[n] == "bad" for n in ran))
    found = await records(store, result)
    for n in range(count):
        expected = "succeeded" if well[n] else "failed" if n in ran else "skipped"
        assert found[f"b{n}"]["status"] == expected


async def test_a_failed_block_skips_its_dependents_and_nothing_else(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """The run is a failure that names the block."""
    blocks = [
        block("bad", fail="no luck", give=7),
        block("good"),
        block("after_bad", "bad"),
        block("further", "after_bad"),
        block("after_good", "good"),
    ]
    result = await executor.execute_workflow(text(*blocks, outputs={"o": "{{ inputs }}"}))
    assert result.status == "failure"
    assert result.error == "block 'bad' failed: no luck"
    assert result.outputs == {}
    assert sorted(probe.started) == ["after_good", "bad", "good"]
    found = await records(store, result)
    assert found["after_bad"]["message"] == "block 'bad', which it depends on, failed"
    assert found["further"]["message"] == "block 'after_bad', which it depends on, was skipped"
    assert found["bad"]["outputs"] == {"value": 7}
    assert (await statuses(store, result.run_id))[-1] == ("failed", 3)


async def test_all_failed_blocks_are_named(executor: WorkflowExecutor, probe: Probe) -> None:
    """In the order of the definition."""
    assert probe is not None
    result = await executor.execute_workflow(text(block("x", fail="one"), block("y", fail="two")))
    assert result.error == "block 'x' failed: one; block 'y' failed: two"


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        (True, True),
        (False, False),
        ("true", True),
        (" False ", False),
        ("{{ inputs.n > 1 }}", True),
        ("{{ inputs.n > 9 }}", False),
        ("{{ 'tr' }}ue", True),
        ("{{ 'false' }}", False),
    ],
)
async def test_a_condition_decides_whether_a_block_runs(
    executor: WorkflowExecutor, probe: Probe, condition: object, *, runs: bool
) -> None:
    """What depends on a skipped block is skipped too, and the run is a success."""
    workflow = text(block("a", condition=condition), block("b", "a"), inputs={"n": {"type": "num"}})
    result = await executor.execute_workflow(workflow, {"n": 5})
    assert result.is_success
    assert probe.started == (["a", "b"] if runs else [])


@pytest.mark.parametrize("condition", ["{{ inputs.n }}", "{{ 'yes' }}", "{{ [] }}", "{{ none }}", "x{{ 1 }}"])
async def test_a_condition_that_is_neither_true_nor_false_fails_its_block(
    executor: WorkflowExecutor, probe: Probe, condition: str
) -> None:
    """Nothing is guessed."""
    workflow = text(block("a", condition=condition), inputs={"n": {"type": "num"}})
    result = await executor.execute_workflow(workflow, {"n": 1})
    assert result.error == "block 'a' failed: condition: its value is neither true nor false"
    assert probe.started == []


@pytest.mark.parametrize(
    ("give", "message"),
    [
        ("{{ inputs.d.gone }}", "inputs.give: inputs.d.gone is undefined, in {{ inputs.d.gone }}"),
        ("{{ 9**9**9 }}", "inputs.give: int outside"),
        ("{{ '\\ud800' }}", "inputs.give: text with a lone surrogate is not JSON"),
        ("{{ 1e308 * 10 }}", "inputs.give: inf is not JSON"),
        ("{{ 'a' * 10**9 }}", "inputs.give: it has more work to do"),
    ],
)
async def test_an_expression_that_fails_fails_its_block(
    executor: WorkflowExecutor, probe: Probe, give: str, message: str
) -> None:
    """With the input and the expression; the run ends, and can be looked at."""
    workflow = text(block("a", give=give), inputs={"d": {"type": "dict", "default": {}}})
    result = await executor.execute_workflow(workflow)
    assert result.error is not None
    assert result.error.startswith(f"block 'a' failed: {message}")
    assert probe.started == []


async def test_inputs_of_a_wrong_type_fail_the_block(executor: WorkflowExecutor) -> None:
    """Those that an expression gives are known only then."""
    workflow = text(shell("a", "true", timeout_seconds="{{ inputs.t }}"), inputs={"t": {"type": "num"}})
    result = await executor.execute_workflow(workflow, {"t": -1})
    assert result.error == "block 'a' failed: inputs.timeout_seconds: Input should be greater than 0"


async def test_outputs_that_are_not_json_fail_the_block_with_the_path(executor: WorkflowExecutor, probe: Probe) -> None:
    """Before they reach a store."""
    probe.odd_outputs["a"] = [{"when": {1, 2}}]
    result = await executor.execute_workflow(text(block("a"), block("b")))
    assert result.error == "block 'a' failed: outputs.value[0].when: set is not JSON"
    assert probe.finished == ["a", "b"]


async def test_a_bug_in_a_block_type_is_the_failure_of_its_block(
    executor: WorkflowExecutor, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its siblings run on."""

    async def broken(*_: object) -> dict[str, Any]:
        raise RuntimeError("oops")

    workflow = text(block("a"), shell("b", "true"))
    monkeypatch.setattr(probe, "run", broken)
    result = await executor.execute_workflow(workflow)
    assert result.error == "block 'a' failed: RuntimeError: oops"


async def test_a_block_that_cancels_itself_fails(
    executor: WorkflowExecutor, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not vanish."""

    async def cancelled(*_: object) -> dict[str, Any]:
        raise asyncio.CancelledError

    monkeypatch.setattr(probe, "run", cancelled)
    result = await executor.execute_workflow(text(block("a")))
    assert result.error == "block 'a' failed: it was cancelled from within"


async def test_outputs_that_cannot_be_evaluated_make_the_run_a_failure(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """The error names the output."""
    assert probe is not None
    workflow = text(block("a", condition=False), outputs={"o": "{{ blocks.a.outputs.value }}"})
    result = await executor.execute_workflow(workflow)
    assert result.error == "outputs.o: blocks.a.outputs.value is undefined, in {{ blocks.a.outputs.value }}"
    assert (await statuses(store, result.run_id))[-1][0] == "failed"


async def test_bad_inputs_are_refused_before_anything_runs(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """Nothing is saved either."""
    workflow = text(block("a"), inputs={"n": {"type": "num"}})
    for inputs in (None, {}, {"n": "many"}, {"n": 1, "m": 2}):
        with pytest.raises(WorkflowDefinitionError, match="workflow 'flow': "):
            await executor.execute_workflow(workflow, inputs)
    assert probe.started == []
    assert await store.list_checkpoints() == []


async def test_workflows_are_found_by_name_path_or_text(
    executor: WorkflowExecutor, probe: Probe, tmp_path: Path
) -> None:
    """A name that is registered again means the new one."""
    assert probe is not None
    one = text(block("a"), outputs={"o": "one"})
    two = text(block("a"), outputs={"o": "two"})
    definition = executor.load_workflow(one)
    assert (await executor.execute_workflow("flow")).outputs == {"o": "one"}
    assert executor.load_workflow(two).name == "flow"
    assert (await executor.execute_workflow("flow")).outputs == {"o": "two"}
    assert (await executor.execute_workflow(definition)).outputs == {"o": "one"}
    file = tmp_path / "f.yaml"
    file.write_text(one)
    assert (await executor.execute_workflow(str(file))).outputs == {"o": "one"}
    with pytest.raises(
        WorkflowNotFoundError, match=r"'nope' does not exist, and there is no workflow of this name; there are flow"
    ):
        await executor.execute_workflow("nope")
    with pytest.raises(WorkflowDefinitionError, match="there is no block type"):
        await executor.execute_workflow(text({"id": "a", "type": "Nope"}))
    with pytest.raises(WorkflowNotFoundError):
        executor.load_workflow(tmp_path / "gone.yaml")


async def test_a_repeated_run_id_does_not_run_again(executor: WorkflowExecutor, probe: Probe) -> None:
    """It gives the result that there is; in a new process too."""
    executor.load_workflow(text(block("a"), outputs={"o": "{{ metadata.run_id }}"}))
    first = await executor.execute_workflow("flow", run_id="r1")
    assert first.outputs == {"o": "r1"}
    assert await executor.execute_workflow("flow", run_id="r1") == first
    other = WorkflowExecutor(executor.checkpoint_store)
    assert await other.execute_workflow(text(block("a")), run_id="r1") == first
    assert probe.started == ["a"]


async def test_a_repeated_run_id_joins_the_run_that_is_going_on(executor: WorkflowExecutor, probe: Probe) -> None:
    """Both callers get one result."""
    probe.hold("a", started=1)
    executor.load_workflow(text(block("a")))
    first = asyncio.create_task(executor.execute_workflow("flow", run_id="r1"))
    await probe.all_started.wait()
    second = asyncio.create_task(executor.execute_workflow("flow", run_id="r1"))
    third = asyncio.create_task(executor.recover("r1"))
    await asyncio.sleep(0)
    elsewhere = await WorkflowExecutor(executor.checkpoint_store).execute_workflow(text(block("a")), run_id="r1")
    assert elsewhere.status == "running"
    probe.release()
    assert await first == await second == await third
    assert probe.started == ["a"]


async def test_two_calls_at_once_with_one_new_run_id_are_one_run(executor: WorkflowExecutor, probe: Probe) -> None:
    """Neither can slip in between."""
    executor.load_workflow(text(block("a")))
    found = await asyncio.gather(*(executor.execute_workflow("flow", run_id="r1") for _ in range(5)))
    assert len({result.checkpoint_id for result in found}) == 1
    assert probe.started == ["a"]


async def test_a_run_id_of_another_workflow_is_refused(executor: WorkflowExecutor, probe: Probe) -> None:
    """Whether that run is over or going on."""
    await executor.execute_workflow(text(block("a"), name="one"), run_id="r1")
    with pytest.raises(ValueError, match="run 'r1' is a run of workflow 'one', not of 'two'"):
        await executor.execute_workflow(text(block("a"), name="two"), run_id="r1")
    probe.hold("a", started=2)
    run = asyncio.create_task(executor.execute_workflow(text(block("a"), name="one"), run_id="r2"))
    await probe.all_started.wait()
    with pytest.raises(ValueError, match="run 'r2' is a run of workflow 'one', not of 'two'"):
        await executor.execute_workflow(text(block("a"), name="two"), run_id="r2")
    probe.release()
    assert (await run).is_success


@pytest.mark.parametrize("run_id", ["", "x" * 513, "a\0b"])
async def test_an_unfit_run_id_is_refused(executor: WorkflowExecutor, probe: Probe, run_id: str) -> None:
    """Before anything runs."""
    for call in (executor.execute_workflow(text(block("a")), run_id=run_id), executor.recover(run_id)):
        with pytest.raises(ValueError, match="run_id must"):
            await call
    assert probe.started == []


async def test_no_clock_makes_an_older_checkpoint_the_newest(
    executor: WorkflowExecutor, store: InMemoryCheckpointStore, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a run each is younger than the one before, even while the clock goes backwards."""
    assert probe is not None
    ticks = iter(range(10_000, 0, -1))
    monkeypatch.setattr("workflows_mcp.engine.progress.time.time", lambda: float(next(ticks)))
    result = await executor.execute_workflow(text(block("a"), block("b", "a")))
    listed = await store.list_checkpoints(run_id=result.run_id)
    assert [one.status for one in listed][:2] == [CheckpointStatus.COMPLETED, CheckpointStatus.RUNNING]
    assert [one.current_wave_index for one in listed] == [2, 2, 1, 0]
    assert listed[2].created_at == math.nextafter(listed[3].created_at, math.inf)


async def test_with_checkpoints_off_only_pauses_and_ends_are_saved(
    store: InMemoryCheckpointStore, probe: Probe
) -> None:
    """The answer still finds its run."""
    executor = WorkflowExecutor(store, CheckpointConfig(enabled=False))
    result = await executor.execute_workflow(text(block("a"), block("b", "a", ask="well?"), block("c", "b")))
    assert await statuses(store, result.run_id) == [("paused", 1)]
    assert result.checkpoint_id is not None
    assert (await executor.resume_workflow(result.checkpoint_id, "yes")).is_success
    assert await statuses(store, result.run_id) == [("paused", 1), ("completed", 3)]
    assert probe.started == ["a", "b", "c"]
