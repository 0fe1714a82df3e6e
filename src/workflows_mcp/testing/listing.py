"""What is listed, streamed and counted, and in which order."""

import asyncio
import dataclasses
import math
from typing import Any
from unittest import mock

import pytest

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.testing.values import (
    assert_same,
    make_state,
)

__all__ = ["ListingContract"]


class ListingContract:
    """What is listed, streamed and counted, and in which order."""

    async def test_a_listing_is_newest_first_in_one_total_order(self, store: CheckpointStore) -> None:
        """By time, then by id in the order of code points, both descending."""
        ids = ["a", "B", "Z", "z", "ä", "é", "~", "\ue000", "🙂", "a1", "a10", "a2", "A", " ", "_"]
        await asyncio.gather(*(store.save_checkpoint(make_state(name, created_at=7.0)) for name in ids))
        await store.save_checkpoint(make_state("older", created_at=6.999999999))
        await store.save_checkpoint(make_state("newer", created_at=7.000000001))
        listed = [metadata.checkpoint_id for metadata in await store.list_checkpoints()]
        assert listed == ["newer", *sorted(ids, reverse=True), "older"]

    async def test_metadata_says_what_the_state_says(self, store: CheckpointStore) -> None:
        """Every column of the listing."""
        state = make_state(
            "one",
            created_at=12.5,
            paused_block_id="b",
            pause_prompt="Go on?",
            run_id="run",
            parent_checkpoint_id="parent",
            current_wave_index=3,
            context={"text": "x" * 1000},
        )
        await store.save_checkpoint(state)
        [metadata] = await store.list_checkpoints()
        assert dataclasses.replace(metadata, stored_bytes=0, encoding="") == CheckpointMetadata(
            checkpoint_id="one",
            workflow_name="workflow",
            created_at=12.5,
            is_paused=True,
            pause_prompt="Go on?",
            run_id="run",
            status=CheckpointStatus.PAUSED,
            parent_checkpoint_id="parent",
            superseded=False,
            current_wave_index=3,
            pinned=False,
            schema_version=1,
            lease_expires_at=None,
            full_bytes=len(encode_state(state)),
            stored_bytes=0,
            encoding="",
        )
        assert metadata.stored_bytes > 0

    async def test_a_prompt_with_nul_is_listed_with_a_replacement(self, store: CheckpointStore) -> None:
        """The state keeps the prompt as it is."""
        state = make_state(paused_block_id="b", pause_prompt="a\0b")
        await store.save_checkpoint(state)
        [metadata] = await store.list_checkpoints()
        assert metadata.pause_prompt == "a\ufffdb"
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    async def test_each_filter_lets_exactly_its_own_pass(self, store: CheckpointStore) -> None:
        """Alone and together."""
        for state in (
            make_state("1", created_at=1.0, workflow_name="a", run_id="r1"),
            make_state("2", created_at=2.0, workflow_name="b", run_id="r1", paused_block_id="x"),
            make_state("3", created_at=3.0, workflow_name="a", run_id="r2", status="completed"),
            make_state("4", created_at=4.0, workflow_name="a", paused_block_id="x"),
            make_state("5", created_at=5.0, workflow_name="b", status="failed"),
        ):
            await store.save_checkpoint(state)

        async def listed(workflow_name: str | None = None, **filters: Any) -> str:  # noqa: ANN401 - any filter
            page = [one.checkpoint_id for one in await store.list_checkpoints(workflow_name, **filters)]
            streamed = [one.checkpoint_id async for one in store.iter_checkpoints(workflow_name, **filters)]
            assert streamed == page
            return "".join(page)

        assert await listed() == "54321"
        assert await listed("a") == "431"
        assert await listed("") == ""
        assert await listed("absent") == ""
        assert await listed(run_id="r1") == "21"
        assert await listed(status="running") == "1"
        assert await listed(status=CheckpointStatus.PAUSED) == "42"
        assert await listed(status="completed") == "3"
        assert await listed(status="cancelled") == ""
        assert await listed(is_paused=True) == "42"
        assert await listed(is_paused=False) == "531"
        assert await listed(heads_only=True) == "54321"
        assert await listed(runs_only=True) == "321"
        assert await listed(runs_only=True, is_paused=True) == "2"
        assert await listed(id_contains="r1") == "21"
        assert await listed(id_contains="4") == "4"
        assert await listed(created_after=2.0) == "5432"
        assert await listed(created_before=4.0) == "321"
        assert await listed(created_after=2.0, created_before=4.0) == "32"
        assert await listed("a", is_paused=True, created_after=2) == "4"
        assert await listed("a", status="paused", is_paused=True, heads_only=True, id_contains="4") == "4"
        assert await listed("b", status="failed", is_paused=False, heads_only=True, created_before=6) == "5"

    async def test_text_in_an_id_is_found_by_its_very_characters(self, store: CheckpointStore) -> None:
        """In its own or its run's; no character means another one, and a small letter is no large one."""
        ids = ["a%b", "a_b", "axb", "a\\b", "A%B", "é", "e\u0301", "É", "🙂 <b>'\"--", "run"]
        for number, name in enumerate(ids):
            await store.save_checkpoint(make_state(name, created_at=float(number), run_id=f"of {name[::-1]}"))
        await store.save_checkpoint(make_state("of none", created_at=-1.0))
        for text in (*ids, "%", "_", "\\", "a", "b", "A", "f b", "fo", "of ", "of", "'", "\u0301", " ", "x" * 512):
            expected = [name for name in ids if text in name or text in f"of {name[::-1]}"][::-1]
            expected += ["of none"] * (text in "of none")
            assert [one.checkpoint_id for one in await store.list_checkpoints(id_contains=text)] == expected, text
        last = (await store.list_checkpoints(id_contains="of", limit=4))[-1]
        rest = await store.list_checkpoints(id_contains="of", before=last)
        assert [one.checkpoint_id for one in rest] == [*ids[:-4][::-1], "of none"]

    async def test_a_series_counts_each_checkpoint_in_its_step(self, store: CheckpointStore) -> None:
        """Its first moment belongs to a step, its last one to the next; other times belong to none."""
        times = [99.999, 100.0, 100.0, 109.999, 110.0, 125.0, 129.999, 130.0]
        for number, moment in enumerate(times):
            await store.save_checkpoint(make_state(f"{number}", created_at=moment, context={"text": "x" * number}))
        listed = {one.checkpoint_id: one for one in await store.list_checkpoints()}
        for steps, those in ((3, ["123", "4", "56"]), (1, ["123456"]), (6, ["12", "3", "4", "", "", "56"])):
            series = await store.take_series(100, 130, steps)
            assert [one.since for one in series] == [100.0 + 30 / steps * number for number in range(steps)]
            assert [one.checkpoints for one in series] == [len(names) for names in those]
            for one, names in zip(series, those, strict=True):
                assert one.full_bytes == sum(listed[name].full_bytes for name in names)
                assert one.stored_bytes == sum(listed[name].stored_bytes for name in names)

    async def test_a_series_loses_nothing_to_rounding(self, store: CheckpointStore) -> None:
        """Steps of no round length: the moments where they meet, and those next to them, are all counted once."""
        since, until, steps = 1_700_000_000.1, 1_700_000_000.8, 7
        edges = [since + (until - since) / steps * number for number in range(steps)]
        moments = {near for one in edges for near in (one, math.nextafter(one, 0), math.nextafter(one, math.inf))}
        inside = sorted(one for one in {*moments, math.nextafter(until, 0)} if since <= one < until)
        for number, moment in enumerate((*inside, 5e-324)):
            await store.save_checkpoint(make_state(f"{number}", created_at=moment))
        assert sum(one.checkpoints for one in await store.take_series(since, until, steps)) == len(inside)
        assert [one.checkpoints for one in await store.take_series(0, until, 2)] == [1, len(inside)]

    async def test_a_series_of_no_sense_is_a_value_error(self, store: CheckpointStore) -> None:
        """Nothing is counted."""
        spans: list[tuple[Any, Any, Any]] = [
            *((1, 1, 1), (2, 1, 1), (0, 1, 0), (0, 1, 1.0), (0, 1, 1001), (0, 1e9, 10_001), (math.nan, 1, 1)),
            *((0, math.inf, 1), (-1e308, 1e308, 2), (-1e308, 0, 1), ("0", 1, 1), (0, True, 1)),
        ]
        for span in spans:
            with pytest.raises(ValueError):  # noqa: PT011 - the message is each argument's own
                await store.take_series(*span)

    async def test_pages_hold_every_checkpoint_once(self, store: CheckpointStore) -> None:
        """Also where many were created at the same time; by metadata and by text cursor."""
        states = [make_state(f"{number:02}", created_at=float(number // 7)) for number in range(30)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        whole = await store.list_checkpoints()
        for as_text in (False, True):
            pages: list[CheckpointMetadata] = []
            last: CheckpointMetadata | str | None = None
            while page := await store.list_checkpoints(limit=4, before=last):
                assert len(page) <= 4
                pages += page
                last = page[-1].cursor if as_text else page[-1]
            assert pages == whole

    async def test_a_page_of_nothing_is_empty(self, store: CheckpointStore) -> None:
        """`limit=0` is allowed."""
        await store.save_checkpoint(make_state())
        assert await store.list_checkpoints(limit=0) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"limit": -1},
            {"limit": 1.5},
            {"limit": True},
            {"limit": 2**70},
            {"before": "no cursor"},
            {"before": "nan,id"},
            {"before": "1.0,"},
            {"before": "1.0,a\0"},
            {"before": "1.0,\ud800"},
            {"before": 7},
            {"status": "sleeping"},
            {"run_id": ""},
            {"run_id": mock.ANY},
            {"workflow_name": "a\0"},
            {"workflow_name": mock.ANY},
            {"created_after": math.nan},
            {"created_before": "yesterday"},
            {"created_after": 10**400},
            {"is_paused": 1},
            {"is_paused": "no"},
            {"heads_only": None},
            {"runs_only": 1},
            {"id_contains": ""},
            {"id_contains": "a\0"},
            {"id_contains": "\ud800"},
            {"id_contains": "é" * 257},
            {"id_contains": mock.ANY},
            {"workflow_name": 0},
        ],
    )
    async def test_a_bad_filter_is_a_value_error(self, store: CheckpointStore, filters: dict[str, Any]) -> None:
        """It is not quietly ignored."""
        with pytest.raises(ValueError):  # noqa: PT011 - the message is each filter's own
            await store.list_checkpoints(**filters)

    async def test_iteration_streams_all_states_newest_first(self, store: CheckpointStore) -> None:
        """More of them than any page holds."""
        states = [make_state(f"{number:04}", created_at=float(number), context={"n": number}) for number in range(620)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        streamed = [state async for state in store.iter_checkpoints()]
        assert streamed == states[::-1]

    async def test_stats_of_an_empty_store(self, store: CheckpointStore) -> None:
        """Zeros, and no times."""
        stats = await store.get_stats()
        assert (stats.total_checkpoints, stats.paused_checkpoints, stats.automatic_checkpoints) == (0, 0, 0)
        assert (stats.workflows, stats.oldest_checkpoint, stats.newest_checkpoint) == ({}, None, None)
        assert (stats.full_bytes, stats.stored_bytes) == (0, 0)

    async def test_stats_count_what_is_stored(self, store: CheckpointStore) -> None:
        """Numbers, times and bytes."""
        states = [
            make_state("1", workflow_name="b", created_at=10.5),
            make_state("2", workflow_name="a", created_at=11.5, paused_block_id="x"),
            make_state("3", workflow_name="b", created_at=12.5, context={"text": "x" * 5000}),
        ]
        for state in states:
            await store.save_checkpoint(state)
        stats = await store.get_stats()
        assert (stats.total_checkpoints, stats.paused_checkpoints, stats.automatic_checkpoints) == (3, 1, 2)
        assert list(stats.workflows.items()) == [("a", 1), ("b", 2)]
        assert (stats.oldest_checkpoint, stats.newest_checkpoint) == (10.5, 12.5)
        assert stats.full_bytes == sum(len(encode_state(state)) for state in states)
        listed = await store.list_checkpoints()
        assert stats.stored_bytes == sum(one.stored_bytes for one in listed)
        assert stats.database_bytes >= stats.stored_bytes
