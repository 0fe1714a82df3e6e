"""What a server tells of itself: whether it is there, whether it can work, what it has done."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import administer
from tests.migrations import raw
from tests.server.http.served import Served, browser, modern_call, serving, settings_of
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.server.http import readiness

READY = (200, {"status": "ready"})


def not_ready(reason: str) -> tuple[int, dict[str, str]]:
    """What a probe is told then."""
    return 503, {"status": "not ready", "reason": reason}


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found holds for no time."""
    monkeypatch.setattr(readiness, "_FRESH_SECONDS", 0.0)


async def state_of(served: Served) -> tuple[int, Any]:
    """What `/readyz` says."""
    async with browser() as client:
        answer = await client.get(f"{served.url}/readyz")
        assert (await client.get(f"{served.url}/healthz")).json() == {"status": "ok"}, "the process is well"
        return answer.status_code, answer.json()


async def test_a_database_file_that_is_gone_makes_it_not_ready(tmp_path: Path, sqlite_template: Path) -> None:
    """Until it is back. The log says why, once; the answer does not."""
    path = tmp_path / "runs.db"
    shutil.copy(sqlite_template, path)
    async with serving(settings_of(path)) as served:
        assert await state_of(served) == READY
        path.rename(tmp_path / "away.db")
        assert await _eventually(served, not_ready("database"))
        (tmp_path / "away.db").rename(path)
        assert await _eventually(served, READY)


async def test_a_server_of_a_database_that_is_gone_makes_it_not_ready(
    postgres_server: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And a schema that is behind, or ahead, too."""
    from workflows_mcp import upgrade_schema

    await upgrade_schema(postgres_url)
    name = urlsplit(postgres_url).path.lstrip("/")
    async with serving(settings_of(postgres_url)) as served:
        assert await state_of(served) == READY
        for revision, found in {"0001": not_ready("schema"), "9999": not_ready("schema"), "0003": READY}.items():
            await raw.execute(postgres_url, f"UPDATE workflows_alembic_version SET version_num = '{revision}'")
            assert [await state_of(served) for _ in range(2)] == [found] * 2
        await administer(postgres_server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await administer(
            postgres_server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        assert await _eventually(served, not_ready("database"))
        await administer(postgres_server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await _eventually(served, READY)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sum("workflows-mcp db upgrade" in line for line in told) == 1, told


async def test_many_probes_are_one_look(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask: the database is not asked each time, and one that is slow keeps nobody waiting for long."""
    monkeypatch.setattr(readiness, "_FRESH_SECONDS", 60.0)
    looks = 0

    async def look(_store: object) -> tuple[str, str]:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        return "ready", ""

    monkeypatch.setattr(readiness, "_found", look)
    async with serving(settings_of(sqlite_template)) as served:
        assert await asyncio.gather(*(state_of(served) for _ in range(5))) == [READY] * 5
    assert looks == 1


async def test_a_database_that_hangs_makes_it_not_ready(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A probe is answered in time."""
    monkeypatch.setattr(readiness, "_PATIENCE_SECONDS", 0.05)
    async with serving(settings_of(sqlite_template)) as served:
        monkeypatch.setattr(SQLAlchemyCheckpointStore, "check", lambda _store: asyncio.sleep(60))
        assert await state_of(served) == not_ready("database")
    assert "has not answered for 0.05 s" in caplog.text


async def test_a_server_that_is_stopped_is_not_ready(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever still waits for an answer is told so; nor does a call begin whose body arrives only now."""
    monkeypatch.setattr(readiness, "_PATIENCE_SECONDS", 0.1)
    looking, ending, at_the_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def look(_store: object) -> None:
        looking.set()
        await asyncio.Event().wait()

    async def end_runs(_seconds: float) -> None:
        ending.set()
        await at_the_end.wait()

    async with serving(settings_of(sqlite_template), end_runs=end_runs) as served:
        monkeypatch.setattr(SQLAlchemyCheckpointStore, "check", look)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        async with browser() as client:
            probe = asyncio.create_task(client.get(f"{served.url}/readyz"))
            await looking.wait()
            served.stop.set()
            await ending.wait()
            writer.write(b"{}")
            assert b" 503 " in await reader.readuntil(b"\r\n")
            answer = await probe
            assert (answer.status_code, answer.json()["reason"]) == (503, "stopping")
        writer.close()
        at_the_end.set()


async def test_metrics_tell_of_requests_and_of_calls(sqlite_template: Path) -> None:
    """By names that are few, whatever a client asks for."""
    async with serving(settings_of(sqlite_template)) as served, served.client() as client, browser() as other:
        before = await _metrics(served)
        await client.call_tool("echo", {"text": "hi"})
        headers, body = modern_call("nothing-of-the-kind")
        await other.post(served.mcp, headers=headers, json=body)
        await other.get(f"{served.url}/a-canary", headers={"host": "evil.example"})
        after = await _metrics(served)

    def rise(series: str) -> float:
        return after.get(series, 0) - before.get(series, 0)

    assert rise('workflows_tool_calls_total{outcome="ok",tool="echo"}') == 1
    assert rise('workflows_tool_call_duration_seconds_count{tool="other"}') == 1
    assert rise('workflows_http_requests_total{route="other",status="421"}') == 1
    assert rise('workflows_http_request_duration_seconds_count{route="/mcp"}') >= 2
    assert after["workflows_http_requests_in_progress"] >= 1, "this one"
    assert "workflows_runs_in_progress" in after
    assert "canary" not in str(after)


async def test_a_bug_ends_in_an_answer_that_shows_nothing(
    sqlite_template: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the log show what an error of ours quotes."""

    async def fail(*_: object) -> None:
        raise LookupError("payload-canary")

    monkeypatch.setattr("workflows_mcp.server.http.app.answer_metrics", fail)
    async with serving(settings_of(sqlite_template)) as served, browser() as client:
        answer = await client.get(f"{served.url}/metrics")
    assert (answer.status_code, answer.text) == (500, "The server failed; its log says more.\n")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "a request could not be answered: unexpected LookupError, a bug"
    ]


async def _eventually(served: Served, state: tuple[int, Any]) -> bool:
    """Whether it comes to that: what is read is looked after every now and then."""
    async with asyncio.timeout(10):
        while await state_of(served) != state:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    return True


async def _metrics(served: Served) -> dict[str, float]:
    async with browser() as client:
        text = (await client.get(f"{served.url}/metrics")).text
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
