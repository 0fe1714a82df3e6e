"""The states are what their names say."""

import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from benchmarks.states import SIZES, Shape, StateSource, plain_size
from benchmarks.workloads import WORKLOADS
from workflows_mcp import CheckpointState

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd


def shrinks(state: CheckpointState) -> float:
    """How many times smaller zstd makes it."""
    plain = orjson.dumps(vars(state))
    return len(plain) / len(zstd.compress(plain, level=3))


@pytest.mark.parametrize("compressible", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_state_is_as_large_as_its_name_says(size: str, *, compressible: bool) -> None:
    """To a tenth, all of them."""
    source = StateSource(Shape(SIZES[size], SIZES[size], compressible=compressible))
    for state in source.take(300):
        assert plain_size(state) == pytest.approx(SIZES[size], rel=0.1)


def test_sizes_spread_over_a_range() -> None:
    """From the smallest to the largest, evenly."""
    sizes = [plain_size(state) for state in StateSource(Shape(2**10, 20 * 2**10)).take(500)]
    assert min(sizes) == pytest.approx(2**10, rel=0.1)
    assert max(sizes) == pytest.approx(20 * 2**10, rel=0.1)
    assert sum(sizes) / len(sizes) == pytest.approx(10.5 * 2**10, rel=0.1)


def test_text_shrinks_threefold_and_noise_hardly() -> None:
    """As the outputs of real blocks do, and as pictures in base64 do."""
    [text] = StateSource(Shape(2**20, 2**20)).take(1)
    [noise] = StateSource(Shape(2**20, 2**20, compressible=False)).take(1)
    assert 2.5 < shrinks(text) < 4
    assert shrinks(noise) < 1.4


def test_every_index_has_work() -> None:
    """Runs of 20, twenty workflows, one in a hundred waits, ids in the order of time."""
    states = StateSource(Shape(2**10, 2**10)).take(4000, start=1_000_000.0, step=0.01)
    runs: dict[str | None, list[CheckpointState]] = {}
    for state in states:
        runs.setdefault(state.run_id, []).append(state)
    assert {len(run) for run in runs.values()} == {20}
    assert {len({state.workflow_name for state in run}) for run in runs.values()} == {1}
    assert len({state.workflow_name for state in states}) == 20
    assert sum(state.is_paused for state in states) == 40
    assert len({state.checkpoint_id for state in states}) == len(states)
    assert [state.checkpoint_id for state in states] == sorted(state.checkpoint_id for state in states)
    assert [state.created_at for state in states] == sorted(state.created_at for state in states)


def test_workloads_bear_the_size_that_they_use() -> None:
    """A name that ends in a size, or holds one."""
    for workload in WORKLOADS:
        for name, size in SIZES.items():
            if f"_{name}" in workload.name:
                assert workload.shape is not None
                assert workload.shape.largest == size, workload.name
