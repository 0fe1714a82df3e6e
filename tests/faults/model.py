"""All operations, in whatever order, on the three stores side by side: they agree, always."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from tests.faults.filler import filler
from tests.faults.histories import HISTORY_KINDS, Histories
from tests.faults.row import Effort, Place, Row, Verdict
from tests.faults.side_by_side import LONGER, MOMENT, EnoughError, Stores
from workflows_mcp import (
    CheckpointMetadata,
    CheckpointStatus,
    CheckpointStore,
    upgrade_schema,
)
from workflows_mcp.persistence.deltas import MOST_LINKS
from workflows_mcp.testing import make_state

__all__ = ["ROW", "Model", "run_model"]


_LONG_LEASES = (5_000.0, 50_000.0)
"""They never run out meanwhile, and differ by more than any run of this takes."""

_STEPS = 50
_MOST_VACUUMS = 1
_MOST_REOPENINGS = 2

_TIMES = (-3000.0, -2000.0, -1000.0, 0.0, 100_000.0)
"""When checkpoints are created, in seconds after all of this began."""

_TIMED = ("created_at", "created_after", "created_before")

_AGES = (0.0, 500.0, 1500.0, 2500.0)
"""No checkpoint comes of one of these ages while this runs: which store looks first does not matter."""

_IDS = st.sampled_from(("a", "B'%", "ä", "\uffff", "\U0001f600"))
_OWNERS = st.sampled_from(("me", "you"))
_RUNS = st.sampled_from(("r", "R"))
_WORKFLOWS = st.sampled_from(("w", "W"))
_STATUSES = st.sampled_from(tuple(CheckpointStatus))
_FILLED = tuple({"text": filler(0, 6_000), "more": filler(number, 200 * number)} for number in (1, 2, 3))
_CONTEXTS = st.sampled_from(({}, {"b": 1.5, "a": ["ü\0", -0.0, True, None]}, {"text": "long " * 2_000}, *_FILLED))
_LEASES = st.sampled_from((None, MOMENT, *_LONG_LEASES))
_FIELDS = st.fixed_dictionaries(
    {
        "workflow_name": _WORKFLOWS,
        "created_at": st.sampled_from(_TIMES),
        "run_id": st.none() | _RUNS,
        "status": _STATUSES,
        "context": _CONTEXTS,
    }
)
_FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "workflow_name": _WORKFLOWS | st.just(""),
        "run_id": _RUNS,
        "status": _STATUSES | st.just("unknown"),
        "is_paused": st.booleans(),
        "heads_only": st.booleans(),
        "runs_only": st.booleans(),
        "id_contains": st.sampled_from(("a", "A", "'%", "r", "\U0001f600")),
        "created_after": st.sampled_from(_TIMES),
        "created_before": st.sampled_from(_TIMES),
    },
)


class Model(Histories):
    """What may be done with a store; see `CheckpointStore`."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Callable[[CheckpointStore], Awaitable[object]] | None = None
        self.vacuums = self.reopenings = 0

    @initialize(waves=st.integers(0, 12))
    def begin(self, waves: int) -> None:
        """With nothing, or with a run that has gone on for a while."""
        self.stores.clear()
        if waves:
            self.go_on("r", waves, 0, is_backward=False, ends=False)

    def _timed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values with their times in Unix seconds."""
        began = self.stores.began
        return {name: value + began if name in _TIMED else value for name, value in values.items()}

    def _save(self, name: str, checkpoint_id: str, fields: dict[str, Any], **options: Any) -> None:
        asks = "b" if fields["status"] is CheckpointStatus.PAUSED else None
        state = make_state(checkpoint_id, **fields, paused_block_id=asks, pause_prompt=asks and "why\0?")

        async def save(store: CheckpointStore) -> object:
            return await store.save_checkpoint(state, **options)

        self.last = save
        shown = {"checkpoint_id": checkpoint_id, **fields, **options}
        fields = self._timed(fields)
        self.stores.ask(name, save, shown, wait=options.get("lease_seconds") == MOMENT)

    @rule(checkpoint_id=_IDS, fields=_FIELDS, max_bytes=st.sampled_from((None, None, 5_000)))
    def save(self, checkpoint_id: str, fields: dict[str, Any], max_bytes: int | None) -> None:
        """Without a lease; some are too large."""
        self._save("save", checkpoint_id, fields, max_bytes=max_bytes)

    @rule(checkpoint_id=_IDS, fields=_FIELDS, owner=st.none() | _OWNERS, lease=_LEASES)
    def save_as_owner(self, checkpoint_id: str, fields: dict[str, Any], owner: str | None, lease: float | None) -> None:
        """With a lease, or without one any more."""
        self._save("save with an owner", checkpoint_id, fields, owner=owner, lease_seconds=lease)

    @rule(checkpoint_id=_IDS, previous=_IDS, fields=_FIELDS, owner=st.none() | _OWNERS, lease=_LEASES)
    def follow(
        self, checkpoint_id: str, previous: str, fields: dict[str, Any], owner: str | None, lease: float | None
    ) -> None:
        """Whatever is there, or not; itself, too."""
        options = {"follows": previous, "owner": owner, "lease_seconds": lease if owner else None}
        self._save("save that follows", checkpoint_id, fields, **options)

    @rule(fields=_FIELDS, owner=_OWNERS, ids=st.permutations(("a", "B'%", "ä")), lease=st.sampled_from(_LONG_LEASES))
    def run(self, fields: dict[str, Any], owner: str, ids: list[str], lease: float) -> None:
        """A checkpoint and two that follow it, one after the other, as a run has them."""
        options = {"owner": owner, "lease_seconds": lease}
        self._save("save with an owner", ids[0], fields, **options)
        for previous, checkpoint_id in itertools.pairwise(ids):
            self._save("save that follows", checkpoint_id, fields, follows=previous, **options)

    @precondition(lambda self: self.last is not None)
    @rule()
    def save_again(self) -> None:
        """Just what was saved last, as a caller who was told nothing would."""
        assert self.last is not None
        self.stores.ask("repeated save", self.last, wait=True)

    @rule(checkpoint_id=_IDS)
    def load(self, checkpoint_id: str) -> None:
        """One that is there or not."""
        self.stores.ask("load", lambda store: store.load_checkpoint(checkpoint_id), {"checkpoint_id": checkpoint_id})

    @rule(filters=_FILTERS, limit=st.none() | st.integers(0, 3))
    def list(self, filters: dict[str, Any], limit: int | None) -> None:
        """Some, or as many as there are."""
        timed, shown = self._timed(filters), {**filters, "limit": limit}
        self.stores.ask("list", lambda store: store.list_checkpoints(**timed, limit=limit), shown)

    @rule(filters=_FILTERS, limit=st.integers(1, 3), is_text=st.booleans())
    def list_pages(self, filters: dict[str, Any], limit: int, is_text: bool) -> None:  # noqa: FBT001 - drawn by name
        """Page by page, to the end."""
        timed = self._timed(filters)

        async def pages(store: CheckpointStore) -> object:
            found: list[CheckpointMetadata] = []
            while page := await store.list_checkpoints(
                **timed, limit=limit, before=(found[-1].cursor if is_text else found[-1]) if found else None
            ):
                found += page
            assert found == await store.list_checkpoints(**timed)
            return found

        self.stores.ask("list in pages", pages, {**filters, "limit": limit})

    @rule(filters=_FILTERS)
    def iterate(self, filters: dict[str, Any]) -> None:
        """All states that pass a filter."""
        timed = self._timed(filters)

        async def states(store: CheckpointStore) -> object:
            return [state async for state in store.iter_checkpoints(**timed)]

        self.stores.ask("iterate", states, filters)

    @rule(checkpoint_id=_IDS)
    def delete(self, checkpoint_id: str) -> None:
        """Whatever it is."""
        self.stores.ask(
            "delete", lambda store: store.delete_checkpoint(checkpoint_id), {"checkpoint_id": checkpoint_id}
        )

    @rule(run_id=_RUNS)
    def delete_run(self, run_id: str) -> None:
        """With all that it has."""
        self.stores.ask("delete a run", lambda store: store.delete_run(run_id), {"run_id": run_id})

    @rule(age=st.sampled_from((*_AGES, -1.0)), keep_paused=st.booleans())
    def clean_up(self, age: float, keep_paused: bool) -> None:  # noqa: FBT001 - drawn by name
        """By age; leases that have just ended ended before."""
        self.stores.run(asyncio.sleep(LONGER))
        shown = {"age": age, "keep_paused": keep_paused}
        self.stores.ask("cleanup", lambda store: store.cleanup_expired(age, keep_paused=keep_paused), shown)

    @rule(most=st.integers(0, 3), keep_paused=st.booleans())
    def trim(self, most: int, keep_paused: bool) -> None:  # noqa: FBT001 - drawn by name
        """By number."""
        shown = {"most": most, "keep_paused": keep_paused}
        self.stores.ask("trim", lambda store: store.trim_per_workflow(most, keep_paused=keep_paused), shown)

    @rule(checkpoint_id=_IDS, pinned=st.booleans())
    def pin(self, checkpoint_id: str, pinned: bool) -> None:  # noqa: FBT001 - drawn by name
        """Or not any more."""
        shown = {"checkpoint_id": checkpoint_id, "pinned": pinned}
        self.stores.ask("pin", lambda store: store.pin_checkpoint(checkpoint_id, pinned), shown)

    @rule(checkpoint_id=_IDS, owner=_OWNERS, lease=st.sampled_from((MOMENT, *_LONG_LEASES)))
    def claim(self, checkpoint_id: str, owner: str, lease: float) -> None:
        """For a moment, or for long."""
        shown = {"checkpoint_id": checkpoint_id, "owner": owner, "lease": lease}
        is_brief = lease == MOMENT
        self.stores.ask(
            "claim", lambda store: store.claim_checkpoint(checkpoint_id, owner, lease), shown, wait=is_brief
        )

    @rule(checkpoint_id=_IDS, owner=_OWNERS, lease=st.sampled_from((MOMENT, *_LONG_LEASES)))
    def renew(self, checkpoint_id: str, owner: str, lease: float) -> None:
        """For longer or shorter than it was."""
        shown = {"checkpoint_id": checkpoint_id, "owner": owner, "lease": lease}
        is_brief = lease == MOMENT
        self.stores.ask("renew", lambda store: store.renew_lease(checkpoint_id, owner, lease), shown, wait=is_brief)

    @rule(checkpoint_id=_IDS, owner=_OWNERS)
    def release(self, checkpoint_id: str, owner: str) -> None:
        """The time goes on until the next one: who was abandoned first is then clear."""
        shown = {"checkpoint_id": checkpoint_id, "owner": owner}
        self.stores.ask("release", lambda store: store.release_claim(checkpoint_id, owner), shown, wait=True)

    @rule(limit=st.none() | st.integers(0, 3))
    def list_abandoned(self, limit: int | None) -> None:
        """In their order."""
        self.stores.ask("list abandoned", lambda store: store.list_abandoned(limit), {"limit": limit})

    @rule()
    def stats(self) -> None:
        """All that is counted."""
        self.stores.ask("stats", lambda store: store.get_stats())

    @precondition(lambda self: self.vacuums < _MOST_VACUUMS)
    @rule()
    def vacuum(self) -> None:
        """Changes nothing."""
        self.vacuums += 1
        self.stores.ask("vacuum", lambda store: store.vacuum())

    @precondition(lambda self: self.reopenings < _MOST_REOPENINGS)
    @rule()
    def reopen(self) -> None:
        """Another process would see the same."""
        self.reopenings += 1
        self.stores.reopen()

    def teardown(self) -> None:
        """In the end all that can be seen is the same."""

        async def everything(store: CheckpointStore) -> object:
            listed = await store.list_checkpoints()
            return [
                listed,
                [await store.load_checkpoint(one.checkpoint_id) for one in listed],
                [state async for state in store.iter_checkpoints()],
                await store.list_checkpoints(heads_only=True),
                await store.list_abandoned(),
                await store.get_stats(),
                [(one.checkpoint_id, repr(one.state), one.pinned, one.superseded) async for one in store.iter_stored()],
            ]

        self.stores.ask("compare all", everything)
        self.stores.measure_chains()


_KINDS = (
    *("save", "save with an owner", "save that follows", "repeated save", "load", "list", "list in pages", "iterate"),
    *("delete", "delete a run", "cleanup", "trim", "pin", "claim", "renew", "release", "list abandoned", "stats"),
    *("vacuum", "close and reopen", "compare all"),
    *HISTORY_KINDS,
)
_ERRORS = (
    *("CheckpointAlreadyClaimedError", "CheckpointNotFoundError", "CheckpointTooLargeError", "LeaseLostError"),
    "ValueError",
)


def run_model(stores: Stores, *, examples: int, chance: int) -> str | None:
    """Try so many examples; what they do not agree on, and the shortest way there. None: nothing.

    Args:
        stores: Are compared.
        examples: How many.
        chance: Decides what is tried.
    """
    options = settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    machine = seed(chance)(type("Model", (Model,), {"stores": stores}))
    try:
        run_state_machine_as_test(machine, settings=options)
    except (Exception, EnoughError) as error:
        if stores.disagreement is None:
            raise
        return "\n".join(["they disagree after", *stores.disagreement, f"({type(error).__name__})"])
    return None


async def check(place: Place, effort: Effort) -> Verdict:
    """Do whatever can be done, and compare what the stores say."""
    urls = {"sqlite": str(place.folder / "model.db"), "postgresql": place.url}
    for url in urls.values():
        await upgrade_schema(url)
    verdict = Verdict()

    def work() -> None:
        with Stores.opened(urls, seconds_to_shorten=effort.of(60.0, 10.0)) as stores:
            found = run_model(stores, examples=effort.of(230, 10), chance=effort.seed)
            steps = stores.done.total()
            fewest = min(_KINDS, key=lambda kind: stores.done[kind])
            verdict.figures.update(
                {
                    "steps": f"{steps:,}",
                    "examples": stores.examples,
                    "kinds of operation": sum(stores.done[kind] > 0 for kind in _KINDS),
                    "of the rarest": f"{stores.done[fewest]} ({fewest})",
                    "refused": f"{stores.raised.total():,}",
                    "deltas": f"{stores.deltas:,}",
                    "parted": f"{stores.partings:,}",
                    "longest chain": stores.longest_chain,
                    "disagreements": int(found is not None),
                }
            )
            if found is not None:
                verdict.broken.append(found)
                return
            verdict.require(steps >= effort.of(10_000, 300), f"{steps} steps are too few")
            verdict.require(stores.deltas >= effort.of(4_000, 150), f"{stores.deltas} deltas are too few")
            verdict.require(stores.partings >= effort.of(500, 20), f"{stores.partings} deltas made whole are too few")
            most = MOST_LINKS
            verdict.require(
                stores.longest_chain <= most, f"a chain has {stores.longest_chain} links: {most} is the most"
            )
            for kind in _KINDS:
                verdict.require(stores.done[kind], f"nothing of this kind was done: {kind}")
            for error in _ERRORS:
                verdict.require(stores.raised[error], f"no store ever raised {error}")

    await asyncio.to_thread(work)
    return verdict


ROW = Row(
    fault="model check",
    promise="The store in memory, SQLite and PostgreSQL agree on every result and every error, always.",
    check=check,
    databases=("all",),
    seconds=900.0,
)
