"""What a plan says that would go is what then goes, and nothing else, in every store."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from workflows_mcp import CheckpointStore, create_checkpoint_store
from workflows_mcp.engine.policies import Limits, RetentionRules
from workflows_mcp.engine.retention import retain
from workflows_mcp.engine.retention_plan import Fate, WorkflowPlan, plan_retention, summarize
from workflows_mcp.engine.retention_rules import Exemption
from workflows_mcp.testing import make_state

DAY = 86400.0

RULES = (
    RetentionRules(Limits(max_per_workflow=5, ttl_seconds=3 * DAY)),
    RetentionRules(Limits(max_per_workflow=8, ttl_seconds=None, keep_paused=False)),
    RetentionRules(Limits(ttl_seconds=DAY), {"a": Limits(), "b": Limits(max_per_workflow=2, keep_paused=False)}),
    RetentionRules(None, {"b": Limits(max_per_workflow=1, ttl_seconds=2 * DAY)}),
)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The name of each kind of store in turn."""
    return str(request.param)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[CheckpointStore]:
    """An empty store of each kind in turn."""
    async with create_checkpoint_store(database_url) as store:
        yield store


async def fill(store: CheckpointStore, seed: int) -> None:
    """Save runs of all sorts: short and long, of any age, ended, waiting, held, let go of; pin some of it."""

    async def run(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        created = time.time() - chance.uniform(0.1, 6) * DAY
        workflow, previous, length = chance.choice("abc"), None, chance.randint(1, 4)
        lease = {"owner": f"owner {number}", "lease_seconds": 600.0} if chance.random() < 0.6 else {}
        for step in range(length):
            name = f"{number:03}-{step}"
            status = chance.choice(["running", "paused", "completed", "failed"]) if step == length - 1 else "running"
            state = make_state(
                name,
                workflow_name=workflow,
                created_at=created + step,
                status=status,
                paused_block_id="b" if status == "paused" else None,
            )
            await store.save_checkpoint(state, follows=previous, **lease)  # type: ignore[arg-type] # both, or none
            if chance.random() < 0.08:
                await store.pin_checkpoint(name)
            previous = name if chance.random() < 0.8 else None
        if lease and chance.random() < 0.7:
            await store.release_claim(name, f"owner {number}")

    await asyncio.gather(*map(run, range(60)))


async def planned(store: CheckpointStore, rules: RetentionRules) -> list[Fate]:
    """All that a plan says."""
    return [fate async for fate in plan_retention(store, rules)]


async def names(store: CheckpointStore) -> set[str]:
    """The ids of all checkpoints."""
    return {one.checkpoint_id for one in await store.list_checkpoints()}


@pytest.mark.parametrize("seed", range(2))
async def test_what_a_plan_says_is_what_goes(store: CheckpointStore, seed: int) -> None:
    """Whatever is stored, by rules of all sorts, one after the other; no plan changes anything."""
    await fill(store, seed)
    for rules in random.Random(seed).sample(RULES, len(RULES)):
        before = await names(store)
        fates = await planned(store, rules)
        assert await names(store) == before
        reasons = Counter(fate.goes for fate in fates)
        deleted = await retain(store, rules)
        gone = before - await names(store)
        assert gone == {fate.metadata.checkpoint_id for fate in fates if fate.goes is not None}
        assert (deleted.by_age, deleted.by_count) == (reasons["age"], reasons["count"])
        assert not any(fate.goes for fate in await planned(store, rules))


@pytest.mark.parametrize("database", ["memory"])
async def test_what_the_test_above_is_given_shows_every_reason(store: CheckpointStore) -> None:
    """Or it would prove nothing of those that are missing."""
    await fill(store, 0)
    fates = [fate for rules in RULES for fate in await planned(store, rules)]
    assert {fate.goes for fate in fates} == {"age", "count", None}
    assert {fate.stays for fate in fates} == {*Exemption, None}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_plan_says_why_what_is_old_stays(store: CheckpointStore) -> None:
    """Each reason by itself; what is young is kept without one."""
    now = time.time()
    await store.save_checkpoint(make_state("pinned", created_at=1.0))
    await store.pin_checkpoint("pinned")
    await store.save_checkpoint(make_state("waits", created_at=2.0, paused_block_id="b"))
    await store.save_checkpoint(make_state("held", created_at=3.0, status="failed"), owner="me", lease_seconds=60)
    for name, status in (("abandoned", "running"), ("lately", "failed")):
        await store.save_checkpoint(make_state(name, created_at=4.0, status=status), owner="me", lease_seconds=60)
        await store.release_claim(name, "me")
    await store.save_checkpoint(make_state("young", created_at=now))
    await store.save_checkpoint(make_state("old", created_at=5.0))
    fates = {fate.metadata.checkpoint_id: fate for fate in await planned(store, RetentionRules(Limits(2, 60.0)))}
    assert {name: fate.stays for name, fate in fates.items() if fate.goes is None} == {
        "pinned": Exemption.PINNED,
        "waits": Exemption.WAITING,
        "held": Exemption.LEASED,
        "abandoned": Exemption.UNFINISHED,
        "lately": Exemption.LEASED_LATELY,
        "young": None,
    }
    assert fates["old"].goes == "age"

    plans: dict[str, WorkflowPlan] = {}
    for fate in fates.values():
        summarize(plans, fate)
    [plan] = plans.values()
    assert (plan.total, plan.goes, plan.by_age, plan.by_count) == (7, 1, 1, 0)
    assert plan.full_bytes == fates["old"].metadata.full_bytes
    assert sum(plan.kept.values()) == 5
