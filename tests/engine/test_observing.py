"""What observers are told of a store, and what the wrapped methods look like from outside."""

import inspect
from typing import Any
from unittest import mock

import pytest

from workflows_mcp import CheckpointState, InMemoryCheckpointStore, LeaseLostError, SQLAlchemyCheckpointStore
from workflows_mcp.engine.observing import OPERATIONS, Operation, StoreObserver
from workflows_mcp.testing import make_state


class Listener(StoreObserver):
    """Notes the operations that have ended: their names, what they were about, and the bytes of their state."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str]]] = []
        self.sizes: list[int] = []

    def ended(self, operation: Operation, mark: object) -> None:  # noqa: ARG002 - as the base class has it
        """Note one."""
        self.heard.append((operation.name, operation.names))
        self.sizes.append(operation.plain_bytes)


class Doubling(InMemoryCheckpointStore):
    """Saves in another store first, and loads by itself what it has saved."""

    def __init__(self, inner: InMemoryCheckpointStore) -> None:
        super().__init__()
        self.inner = inner

    async def save_checkpoint(self, state: CheckpointState, **options: Any) -> str:
        """See `CheckpointStore.save_checkpoint`."""
        await self.inner.save_checkpoint(state, **options)
        saved = await super().save_checkpoint(state, **options)
        assert await self.load_checkpoint(saved) is not None
        return saved


@pytest.mark.parametrize("store_type", [InMemoryCheckpointStore, SQLAlchemyCheckpointStore, Doubling])
def test_methods_that_tell_observers_are_coroutine_functions(store_type: type[InMemoryCheckpointStore]) -> None:
    """As mocks and frameworks ask, which await what is one."""
    for name in OPERATIONS:
        method = getattr(store_type, name)
        assert inspect.iscoroutinefunction(method), name


async def test_a_mock_of_a_store_can_be_awaited() -> None:
    """One that takes after a store's class, with the signatures of its methods."""
    store = mock.create_autospec(InMemoryCheckpointStore, instance=True)
    store.load_checkpoint.return_value = None
    assert await store.load_checkpoint("c") is None
    with pytest.raises(TypeError):
        await store.load_checkpoint()


async def test_what_an_operation_is_about_is_told_by_name_and_never_its_owner() -> None:
    """In whatever order the arguments are given: who knows an owner's token may work on its run."""
    store, listener = InMemoryCheckpointStore(), Listener()
    await store.save_checkpoint(make_state("c", workflow_name="w", run_id="r"))
    store.observe(listener)
    await store.claim_checkpoint(owner="token", lease_seconds=60, checkpoint_id="c")
    await store.renew_lease(owner="token", checkpoint_id="c")
    await store.release_claim(owner="token", checkpoint_id="c")
    with pytest.raises(LeaseLostError):
        await store.renew_lease(owner="token", checkpoint_id="absent")
    await store.save_checkpoint(follows="c", state=make_state("d", workflow_name="w", run_id="r"))
    await store.pin_checkpoint(pinned=False, checkpoint_id="d")
    await store.list_checkpoints(workflow_name="w")
    await store.delete_run(run_id="r")
    assert listener.heard == [
        ("claim", {"workflow": "w", "checkpoint": "c", "run": "r"}),
        ("renew", {"checkpoint": "c"}),
        ("release", {"checkpoint": "c"}),
        ("renew", {"checkpoint": "absent"}),
        ("save", {"workflow": "w", "checkpoint": "d", "run": "r"}),
        ("pin", {"checkpoint": "d"}),
        ("list", {}),
        ("delete_run", {"run": "r"}),
    ]


async def test_a_store_within_another_one_is_heard_and_a_part_of_an_operation_is_not() -> None:
    """Whether they have the same observer or each its own; sizes are told of the store that has seen them."""
    inner = InMemoryCheckpointStore()
    outer = Doubling(inner)
    within, without, both = Listener(), Listener(), Listener()
    inner.observe(within)
    outer.observe(without)
    inner.observe(both)
    outer.observe(both)
    await outer.save_checkpoint(make_state("c"))
    assert [name for name, _ in within.heard] == ["save"]
    assert [name for name, _ in without.heard] == ["save"]
    assert [name for name, _ in both.heard] == ["save", "save"]
    [size] = within.sizes
    assert without.sizes[0] >= size > 0
    assert sorted(both.sizes) == sorted([size, without.sizes[0]])
