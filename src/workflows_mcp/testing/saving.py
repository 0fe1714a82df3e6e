"""What is saved comes back exactly, or is refused."""

import asyncio
import math
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.errors import CheckpointEncodeError, CheckpointTooLargeError
from workflows_mcp.testing.values import (
    BAD_NAMES,
    EXACT_VALUES,
    GOOD_NAMES,
    REFUSED_VALUES,
    assert_same,
    make_state,
)

__all__ = ["SavingContract"]


class SavingContract:
    """What is saved comes back exactly, or is refused."""

    async def test_a_saved_checkpoint_loads_as_it_was(self, store: CheckpointStore) -> None:
        """All fields come back."""
        state = make_state(
            "all",
            created_at=1763884800.1234567,
            runtime_inputs={"a": 1},
            context={"blocks": {"a": {"outputs": {"x": [1, 2.5, None, True]}}}},
            completed_blocks=["a", "b"],
            current_wave_index=2,
            execution_waves=[["a"], ["b", "c"]],
            block_definitions={"a": {"type": "Shell"}},
            workflow_stack=[{"name": "outer"}, {"name": "inner"}],
            parent_checkpoint_id="parent",
            paused_block_id="c",
            pause_prompt="Go on?",
            pause_metadata={"choices": ["yes", "no"]},
            child_checkpoint_id="child",
            run_id="run",
        )
        assert await store.save_checkpoint(state) == "all"
        assert_same(await store.load_checkpoint("all"), state)

    async def test_minus_zero_is_no_time_of_its_own(self, store: CheckpointStore) -> None:
        """It is 0.0, in the state as in every listing: a database may not keep its sign."""
        state = make_state(created_at=-0.0)
        await store.save_checkpoint(state)
        [listed] = await store.list_checkpoints()
        loaded = await store.load_checkpoint(state.checkpoint_id)
        assert loaded is not None
        assert [str(one.created_at) for one in (state, listed, loaded)] == ["0.0"] * 3

    async def test_an_absent_checkpoint_is_none(self, store: CheckpointStore) -> None:
        """Nothing under this id: None, not an error."""
        assert await store.load_checkpoint("absent") is None

    @pytest.mark.parametrize("what", EXACT_VALUES)
    async def test_values_come_back_exactly(self, store: CheckpointStore, what: str) -> None:
        """Same values, same types, same order of keys."""
        state = make_state(context={"value": EXACT_VALUES[what]})
        await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    @pytest.mark.parametrize("status", CheckpointStatus)
    async def test_each_status_comes_back(self, store: CheckpointStore, status: CheckpointStatus) -> None:
        """The status is a `CheckpointStatus` again, in the state and in the listing."""
        paused = "block" if status is CheckpointStatus.PAUSED else None
        state = make_state(status=status, paused_block_id=paused)
        await store.save_checkpoint(state)
        loaded = await store.load_checkpoint(state.checkpoint_id)
        assert loaded is not None
        assert loaded.status is status
        [metadata] = await store.list_checkpoints()
        assert metadata.status is status

    @pytest.mark.parametrize("name", GOOD_NAMES)
    async def test_any_text_of_1_to_512_bytes_is_an_id(self, store: CheckpointStore, name: str) -> None:
        """Ids and names hold any characters, and find exactly their own checkpoint."""
        state = make_state(name, workflow_name=name, run_id=name, parent_checkpoint_id=name)
        await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint(name), state)
        assert [one.checkpoint_id for one in await store.list_checkpoints(name, run_id=name)] == [name]
        assert await store.delete_checkpoint(name)

    @pytest.mark.parametrize("what", BAD_NAMES)
    async def test_anything_else_is_a_value_error(self, store: CheckpointStore, what: str) -> None:
        """A bad id or name is refused by every call, and nothing is stored."""
        name = BAD_NAMES[what]
        for call in (store.load_checkpoint, store.delete_checkpoint):
            with pytest.raises(ValueError, match="checkpoint_id"):
                await call(name)
        fields = ["checkpoint_id", "workflow_name"]
        if name is not None:
            fields += ["run_id", "parent_checkpoint_id"]
        for field in fields:
            bad: dict[str, Any] = {field: name}
            with pytest.raises(ValueError, match=field):
                await store.save_checkpoint(make_state(**bad))
        assert await store.list_checkpoints() == []

    async def test_saving_again_replaces_the_whole_checkpoint(self, store: CheckpointStore) -> None:
        """Nothing of the first state is left, in the state or in the listing."""
        await store.save_checkpoint(
            make_state("one", context={"old": 1}, paused_block_id="b", pause_prompt="old", run_id="old")
        )
        second = make_state("one", workflow_name="other", context={"new": 2}, created_at=5.0)
        await store.save_checkpoint(second)
        assert_same(await store.load_checkpoint("one"), second)
        [metadata] = await store.list_checkpoints()
        assert (metadata.workflow_name, metadata.created_at, metadata.run_id) == ("other", 5.0, None)
        assert (metadata.is_paused, metadata.pause_prompt) == (False, None)

    async def test_a_long_history_comes_back_exactly_whatever_of_it_goes(self, store: CheckpointStore) -> None:
        """States of a run that have most in common: some are deleted, and one is saved again with other content."""
        outputs = [f"{number} is the output of block {number}; " * 30 for number in range(20)]
        states = {
            number: make_state(f"{number}", run_id="run", context={"text": outputs[0] * 5, "outputs": outputs[:number]})
            for number in range(20)
        }
        for state in states.values():
            await store.save_checkpoint(state)
        for number in (0, 8, 11, 19):
            assert await store.delete_checkpoint(f"{number}") is True
            del states[number]
        states[16] = make_state("16", run_id="run", context={"other": outputs})
        await store.save_checkpoint(states[16])
        for state in states.values():
            assert_same(await store.load_checkpoint(state.checkpoint_id), state)
        iterated = {state.checkpoint_id: state async for state in store.iter_checkpoints()}
        assert iterated == {state.checkpoint_id: state for state in states.values()}

    async def test_a_state_that_is_changed_later_changes_nothing_saved(self, store: CheckpointStore) -> None:
        """The store refers to no object of the caller's."""
        context = {"list": [1]}
        await store.save_checkpoint(make_state("one", context=context))
        context["list"].append(2)
        loaded = await store.load_checkpoint("one")
        assert loaded is not None
        assert loaded.context == {"list": [1]}
        loaded.context["list"].append(3)
        again = await store.load_checkpoint("one")
        assert again is not None
        assert again.context == {"list": [1]}

    @pytest.mark.parametrize("what", REFUSED_VALUES)
    async def test_what_would_not_come_back_is_refused_with_its_path(self, store: CheckpointStore, what: str) -> None:
        """The error names the path; the checkpoint that was saved before stays."""
        before = make_state("one")
        await store.save_checkpoint(before)
        state = make_state("one", context={"blocks": {"a": [0, REFUSED_VALUES[what]]}})
        with pytest.raises(CheckpointEncodeError, match=r"checkpoint 'one': context\.blocks\.a\[1\]"):
            await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint("one"), before)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("runtime_inputs", []),
            ("context", None),
            ("completed_blocks", ("a",)),
            ("execution_waves", {}),
            ("block_definitions", [1]),
            ("workflow_stack", "text"),
            ("pause_metadata", []),
            ("child_checkpoint_id", 5),
            ("current_wave_index", 1.0),
            ("current_wave_index", True),
            ("schema_version", 2),
            ("schema_version", 0),
        ],
    )
    async def test_a_field_of_another_type_is_refused(self, store: CheckpointStore, field: str, value: object) -> None:
        """What is no dict, list or text where one belongs is refused by name."""
        fields: dict[str, Any] = {field: value}
        with pytest.raises(CheckpointEncodeError, match=field):
            await store.save_checkpoint(make_state(**fields))
        assert await store.list_checkpoints() == []

    async def test_a_state_above_the_limit_is_refused(self, store: CheckpointStore) -> None:
        """The limit counts the plain JSON, however well it could be compressed."""
        state = make_state("one", context={"text": "x" * 10_000})
        size = len(encode_state(state))
        with pytest.raises(CheckpointTooLargeError, match="'one'"):
            await store.save_checkpoint(state, max_bytes=size - 1)
        assert await store.load_checkpoint("one") is None
        await store.save_checkpoint(state, max_bytes=size)
        assert_same(await store.load_checkpoint("one"), state)

    @pytest.mark.parametrize("limit", [0, -1, 1.5, math.nan, "1", True])
    async def test_a_limit_that_is_none_is_a_value_error(self, store: CheckpointStore, limit: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is stored."""
        with pytest.raises(ValueError, match="max_bytes"):
            await store.save_checkpoint(make_state(), max_bytes=limit)
        assert await store.list_checkpoints() == []

    async def test_concurrent_saves_all_land(self, store: CheckpointStore) -> None:
        """Each under its own id, whole."""
        states = [make_state(f"{number}", context={"n": number, "text": "x" * number}) for number in range(100)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        for state in states:
            assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    async def test_concurrent_saves_of_one_id_leave_one_of_them_whole(self, store: CheckpointStore) -> None:
        """Never a mixture, in the state or between state and listing."""
        states = [make_state("one", workflow_name=f"w{n}", created_at=float(n), context={"n": n}) for n in range(30)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        loaded = await store.load_checkpoint("one")
        assert loaded in states
        [metadata] = await store.list_checkpoints()
        assert loaded is not None
        assert (metadata.workflow_name, metadata.created_at) == (loaded.workflow_name, loaded.created_at)

    async def test_vacuum_changes_nothing_that_is_stored(self, store: CheckpointStore) -> None:
        """It tidies, no more."""
        states = [make_state(f"{number}") for number in range(20)]
        for state in states:
            await store.save_checkpoint(state)
        await store.trim_per_workflow(5)
        before = await store.list_checkpoints()
        await store.vacuum()
        assert await store.list_checkpoints() == before

    async def test_closing_twice_is_fine(self, store: CheckpointStore) -> None:
        """Also when nothing was done, and at the end of `async with`."""
        async with store as entered:
            assert entered is store
        await store.close()
