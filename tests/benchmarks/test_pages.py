"""What pages are measured with: a database like one in use, a visitor, and a report of what was found."""

import asyncio
import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.pages_client import NotAPageError, visiting
from benchmarks.pages_command import pages
from benchmarks.pages_fill import fill
from benchmarks.pages_report import markdown, with_pages
from benchmarks.pages_results import PageFigures, PagesOf, PagesResults, Took, goals, read_pages, write_pages
from tests.conftest import OpenStore
from tests.documents.pieces import ROOT


async def test_what_a_database_is_filled_with_is_what_a_store_has_saved(
    open_store: OpenStore, database_url: str
) -> None:
    """All of it can be loaded; runs stand as they were said to; each is followed to its head."""
    filled = await asyncio.to_thread(fill, database_url, 1_000)
    store = open_store()
    states = [state async for state in store.iter_checkpoints()]
    assert len(states) == filled.checkpoints > 1_000
    listed = {one.checkpoint_id: one for one in await store.list_checkpoints()}
    assert all(
        (state.run_id, state.workflow_name, state.created_at, state.status)
        == (one.run_id, one.workflow_name, one.created_at, one.status)
        for state in states
        for one in [listed[state.checkpoint_id]]
    )
    heads = await store.list_checkpoints(heads_only=True)
    assert {one.run_id for one in heads} == {one.run_id for one in listed.values()}
    assert len(heads) == sum(filled.runs.values())
    counted = Counter(str(one.status) for one in heads)
    runs = filled.runs
    assert counted["completed"] == runs["completed"] + runs["answered"]
    assert counted["failed"] == runs["failed"]
    assert counted["running"] == runs["held"] + runs["abandoned"] + runs["foreign"]
    pulse = await store.take_pulse()
    assert (pulse.waiting, pulse.leased, pulse.abandoned) == (runs["waiting"], runs["held"], runs["abandoned"])
    assert len(filled.checkpoint_ids) == 100
    assert {listed[one].run_id for one in filled.checkpoint_ids} == {filled.run_id}


class _Answers(BaseHTTPRequestHandler):
    """Answers as the query says."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        """See the class."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        _Answers.count += 1
        what = "a part" if self.headers.get("hx-request") == "true" else "a page"
        number = f"number {_Answers.count}; " if "counted" in asked else ""
        body = f"{what}; {number}{self.headers.get('cookie', 'nobody')}".encode()
        self.send_response(int(asked.get("status", "200")))
        for name in ("server-timing", "set-cookie", "connection"):
            if name in asked:
                self.send_header(name, asked[name])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody answers so."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_visitor_keeps_connection_and_cookie_and_reads_the_servers_time(port: int) -> None:
    """As a browser does."""
    timing = "server-timing=app;dur=4.5"
    with visiting(port) as visitor:
        answer = visitor.ask(f"/?{timing}&set-cookie=who=me;%20HttpOnly", "a page; nobody")
        assert (answer.size, answer.server_ms) == (len("a page; nobody"), 4.5)
        assert answer.client_ms > 0
        visitor.ask(f"/?{timing}", "a page; who=me")


def test_a_part_that_is_not_there_yet_is_asked_for_again(port: int) -> None:
    """As the page that it belongs to does; all answers count."""
    with visiting(port) as visitor:
        _Answers.count = 0
        answer = visitor.await_part("/?counted=yes&server-timing=app;dur=4.5", "a part; number 3")
        assert (_Answers.count, answer.server_ms) == (3, 13.5)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("status=404&server-timing=app;dur=1", "status 404"),
        ("server-timing=db;dur=1", "no Server-Timing"),
        ("server-timing=app;dur=1&connection=close", "closes the connection"),
        ("server-timing=app;dur=1", "'another page' is not on the page"),
    ],
)
def test_what_is_not_the_page_that_was_meant_is_no_figure(port: int, query: str, complaint: str) -> None:
    """An error is answered quickly, too."""
    with visiting(port) as visitor, pytest.raises(NotAPageError, match=complaint):
        visitor.ask(f"/?{query}", "another page" if "another" in complaint else "a page")


def results(median: float = 12.0, p95: float = 20.0) -> PagesResults:
    """Those of a first page that takes so long, in milliseconds, and of a slow other one."""
    pages = [
        PageFigures("runs", "Runs, first page", 27_000, 100, Took(median, p95), Took(13.0, 22.0), Took(3.0, 4.0)),
        PageFigures("counts", "Counts", 500, 5, Took(4_000.0, 5_000.0), Took(4_001.0, 5_001.0), Took(4_100.0, 4_200.0)),
    ]
    found = PagesOf(
        "sqlite", {}, 1_000_000, {"completed": 9}, 10**9, 60.0, 5, Took(20.0, 30.0), Took(21.0, 31.0), pages
    )
    return PagesResults(
        "a command", "2026-01-01", is_quick=False, machine={"cpu": "a cpu"}, versions={}, databases=[found]
    )


def test_the_first_page_must_take_less_than_fifty_milliseconds_and_the_report_says_whether_it_does() -> None:
    """Others are told, and not judged."""
    assert [goal.is_met for goal in goals(results(49.9, 50.0))] == [True, False]
    assert [goal.is_met for goal in goals(results(50.0, 49.9))] == [False, True]
    told = markdown(results(60.0, 70.0))
    assert "median | < 50 | 60.0 | **no** |" in told
    assert (
        "| Runs, first page | 27.0 KB | 60.0 (≤ 70.0) ms | 13.0 (≤ 22.0) ms | 3.00 (≤ 4.00) ms | 57.0 ms | 100 |"
        in told
    )
    assert "| 4,100 (≤ 4,200) ms | 0.00 ms | 5 |" in told


def test_figures_come_back_from_their_file(tmp_path: Path) -> None:
    """So that the document can be compared with them."""
    write_pages(results(), tmp_path / "pages.json")
    assert read_pages(tmp_path / "pages.json") == results()


def test_the_tables_in_the_document_are_those_of_the_results() -> None:
    """`python3 run.py bench pages --save docs/performance` makes both."""
    text = (ROOT / "docs" / "performance.md").read_text()
    found = read_pages(ROOT / "docs" / "performance" / "pages.json")
    assert with_pages(text, found) == text
    assert markdown(found) == (ROOT / "docs" / "performance" / "pages.txt").read_text()
    assert not found.is_quick
    assert {one.checkpoints > 1_000_000 for one in found.databases} == {True}


def test_a_quick_run_says_that_its_figures_mean_little() -> None:
    """In the document, too, should somebody keep them."""
    quick = dataclasses.replace(results(), is_quick=True)
    assert with_pages("a<!-- pages --><!-- /pages -->z", quick).startswith("a<!-- pages -->\nA quick run")
    assert "quick" not in markdown(results())


def test_a_page_that_there_is_not_is_told_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    assert pages(only=["runs", "rnus"]) == 1
    assert "no page is called 'rnus'; they are: runs, later," in capsys.readouterr().err
