"""What operators watch: `stats`, metrics over HTTP, log lines in JSON, and the documents about them."""

import asyncio
import json
import re
import signal
import socket
import sqlite3
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import ASKING, CLI
from workflows_mcp import InMemoryCheckpointStore, SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.settings import Settings
from workflows_mcp.telemetry.names import METRICS, MetricKind
from workflows_mcp.telemetry.tracing import StoreTracer
from workflows_mcp.wiring import make_executor

DOCS = Path(__file__).parents[2] / "docs"
DATABASE = ("--database-url", "runs.db")

FAILING = """\
name: failing
inputs:
  what: {type: str}
blocks:
  - {id: say, type: Shell, for_each: ["{{ inputs.what }}"], inputs: {command: "echo {{ inputs.what }} >&2; false"}}
"""


@pytest.fixture
def filled(cli: CLI, tmp_path: Path) -> CLI:
    """A database with a run that waits, and one that has lost its process."""
    (tmp_path / "asking.yaml").write_text(ASKING)

    async def fill() -> None:
        async with SQLAlchemyCheckpointStore(tmp_path / "runs.db") as store:
            await WorkflowExecutor(store).execute_workflow(ASKING, {"who": "input-canary"})

    cli("db", "upgrade", *DATABASE)
    asyncio.run(fill())
    return cli


def test_stats_counts_for_people_and_for_programs(filled: CLI) -> None:
    """The same numbers; neither shows what is stored."""
    shown = filled("stats", *DATABASE)
    assert shown.code == 0
    assert re.search(r"^checkpoints +3, history included: 2 running, 1 paused$", shown.out, re.MULTILINE)
    assert re.search(r"^runs +1, each by its newest checkpoint: 1 paused$", shown.out, re.MULTILINE)
    assert re.search(r"^at work +0; abandoned: 0$", shown.out, re.MULTILINE)
    assert re.search(r"^waiting +1, the oldest for \d+ seconds$", shown.out, re.MULTILINE)
    assert re.search(r"^3 +█{20} +1 +.* asking$", shown.out, re.MULTILINE)
    chart = re.search(r"^ +([▁-█]{60})  [123] a minute at the most$", shown.out, re.MULTILINE)
    assert chart is not None
    assert set("▁█") <= set(chart[1])
    value = filled("stats", "--json", *DATABASE).json()
    assert (len(value["last_hour_by_minute"]), sum(value["last_hour_by_minute"])) == (60, 3)
    assert value["checkpoints"] == value["last_hour"] == value["workflows"]["asking"]["checkpoints"] == 3
    assert value["statuses"]["paused"] == value["head_statuses"]["paused"] == value["waiting"] == 1
    assert (value["statuses"]["running"], value["head_statuses"]["running"]) == (2, 0)
    assert value["compression_ratio"] == pytest.approx(value["full_bytes"] / value["stored_bytes"], abs=0.01)
    assert "canary" not in shown.out + json.dumps(value)
    metrics = filled("stats", "--prometheus", *DATABASE)
    assert 'workflows_checkpoints{database="sqlite",workflow="asking"} 3.0' in metrics.out
    assert 'workflows_paused_runs{database="sqlite"} 1.0' in metrics.out
    for name in ("full_bytes", "stored_bytes"):
        size = value["workflows"]["asking"][name]
        assert f'workflows_checkpoints_{name}{{database="sqlite",workflow="asking"}} {float(size)}\n' in metrics.out


def test_stats_of_nothing(cli: CLI) -> None:
    """An empty database has nothing to count, and one that is not there is an error."""
    assert "there is no SQLite database" in cli("stats", *DATABASE).error()
    cli("db", "upgrade", *DATABASE)
    assert cli("stats", *DATABASE).out == "There are no checkpoints here.\n"
    assert cli("stats", *DATABASE, "--json").json()["oldest"] is None
    both = cli("stats", "--json", "--prometheus", *DATABASE)
    assert (both.code, "take one of them" in both.error()) == (2, True)


def lines(text: str) -> list[dict[str, Any]]:
    """What was logged; each line is an object with a time, a level, a logger and a message."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in found)
    return found


def test_every_line_on_stderr_is_json_when_that_is_asked_for(cli: CLI, tmp_path: Path) -> None:
    """A run that fails, with what it works on left out; the result is on stdout as ever."""
    (tmp_path / "w.yaml").write_text(FAILING)
    ran = cli("run", "w.yaml", "--input", "what=input-canary", *DATABASE, "--log-format", "json")
    assert ran.code == 1
    found = lines(ran.err)
    assert "canary" not in ran.err
    assert found[0]["message"] == "created the SQLite database '" + str(tmp_path / "runs.db") + "'"
    events = [line["event"] for line in found if "event" in line]
    assert events[0] == "RunStarted"
    assert events[-1] == "RunEnded"
    assert found[-1]["message"].startswith("run ")
    assert "failed; why: workflows-mcp runs show" in found[-1]["message"]
    [block] = [line for line in found if line.get("block") == "say[]" and line["event"] == "BlockFinished"]
    assert (block["status"], block["level"]) == ("failed", "warning")
    quiet = cli(
        "runs", "list", *DATABASE, "--json", env={"WORKFLOWS_LOG_FORMAT": "json", "WORKFLOWS_LOG_LEVEL": "warning"}
    )
    assert quiet.err == ""
    assert quiet.json()["runs"][0]["status"] == "failure"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("stats", "--log-format=json", "--database-url", "absent.db"), 1, "there is no SQLite database"),
        (("stats", "--no-such-option", "--log-format", "json"), 2, "--no-such-option"),
        (("runs", "show", "r", "--log-format", "json", "--database-url", "pg://u:s3cret-pa55@h/d"), 1, "***"),
    ],
)
def test_an_error_too_is_a_json_line(cli: CLI, words: tuple[str, ...], code: int, part: str) -> None:
    """Also one of the command line itself; with the exit code, and without a password."""
    failed = cli(*words)
    [line] = lines(failed.err)
    assert (failed.code, line["exit_code"], line["level"]) == (code, code, "error")
    assert part in line["message"] or "s3cret" not in line["message"]


def test_a_log_format_or_level_that_there_is_not_is_refused(cli: CLI) -> None:
    """By the option and by the variable."""
    assert "text" in cli("stats", "--log-format", "xml", *DATABASE).error()
    assert "WORKFLOWS_LOG_FORMAT" in cli("stats", *DATABASE, env={"WORKFLOWS_LOG_FORMAT": "xml"}).error()
    assert "WORKFLOWS_LOG_LEVEL" in cli("stats", *DATABASE, env={"WORKFLOWS_LOG_LEVEL": "loud"}).error()


def test_the_level_decides_what_is_logged(cli: CLI, tmp_path: Path) -> None:
    """Down to each checkpoint, or nothing but errors."""
    (tmp_path / "w.yaml").write_text("name: w\nblocks: [{id: a, type: Shell, inputs: {command: 'true'}}]\n")
    run = ("run", "w.yaml", *DATABASE, "--log-format", "json")
    loud = lines(cli(*run, env={"WORKFLOWS_LOG_LEVEL": "debug"}).err)
    assert "CheckpointSaved" in {line.get("event") for line in loud}
    assert cli(*run, env={"WORKFLOWS_LOG_LEVEL": "error"}).err == ""


def test_tracing_is_a_setting() -> None:
    """Off unless it is asked for."""
    for wanted in (False, True):
        store = InMemoryCheckpointStore()
        make_executor(store, Settings(tracing=wanted))
        assert [type(one) for one in store.observers] == [StoreTracer] * wanted


def test_a_port_that_is_taken_is_an_error_that_says_so(filled: CLI) -> None:
    """Before anything is recovered; and without --watch there is nobody to ask."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = filled("recover", "--watch", "--metrics-port", str(port), *DATABASE)
    assert failed.code == 1
    assert f"port {port} of 127.0.0.1 cannot be had" in failed.error()  # and nothing that did not come true
    assert "--watch" in filled("recover", "--metrics-port", "0", *DATABASE).error()


def names_in(text: str) -> set[str]:
    """The series that a document names."""
    return set(re.findall(r"\bworkflows_(?!mcp)[a-z_]+", text))


def series_of(name: str) -> set[str]:
    """The series of a metric, as Prometheus stores them."""
    kind = next(metric.kind for metric in METRICS if metric.name == name)
    suffixes = {
        MetricKind.COUNTER: ("_total",),
        MetricKind.GAUGE: ("",),
        MetricKind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    }
    return {f"{name}{suffix}" for suffix in suffixes[kind]}


def test_a_process_that_works_exports_what_dashboard_alerts_and_document_name(filled: CLI, tmp_path: Path) -> None:
    """Scraped over HTTP from a process that goes on with a run; all that it exports is documented."""
    db = sqlite3.connect(tmp_path / "runs.db")
    with db:  # the run that waits is one whose process is gone, as it was a moment before
        db.execute("DELETE FROM checkpoints WHERE status = 'paused'")
        db.execute(
            "UPDATE checkpoints SET superseded = 0, lease_owner = 'gone', lease_expires_at = 1 "
            "WHERE current_wave_index = 1"
        )
    db.close()
    process = filled.start(
        "recover", "--watch", "--metrics-port", "0", "--log-format", "json", *DATABASE,
        env={"WORKFLOWS_LEASE_SECONDS": "0.2"},
    )  # fmt: skip
    assert process.stderr is not None
    url = ""
    while not url:
        said = json.loads(process.stderr.readline())["message"]
        url = said.partition("metrics for Prometheus: ")[2]
    deadline = time.monotonic() + 20
    exported: dict[str, set[str]] = {}
    values: dict[str, float] = {}
    while values.get("workflows_runs_total paused") != 1 or values.get("workflows_checkpoint_up sqlite") != 1:
        assert time.monotonic() < deadline
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        families = list(text_string_to_metric_families(text))
        exported = {family.name: {one.name for one in family.samples} for family in families}
        values = {
            " ".join([one.name, *one.labels.values()]): one.value for family in families for one in family.samples
        }
    process.send_signal(signal.SIGTERM)
    assert filled.finish(process).code == 0
    assert values["workflows_checkpoint_saves_total sqlite ok"] >= 1
    assert values["workflows_checkpoint_operation_duration_seconds_count sqlite claim"] == 1
    assert "canary" not in text

    ours = {name for name in exported if name.startswith("workflows_")}
    counted = {metric.name for metric in METRICS if metric.name.startswith("workflows_checkpoints")}
    assert ours | counted == {metric.name for metric in METRICS}
    series = {one for name in ours | counted for one in series_of(name)}
    for document in ("monitoring/grafana-dashboard.json", "monitoring/alerts.yaml"):
        assert names_in((DOCS / document).read_text()) <= series | ours, document
    shown = names_in((DOCS / "monitoring/grafana-dashboard.json").read_text())
    assert {name for name in ours | counted if not series_of(name) & shown} == set(), "the dashboard shows every metric"
    table = {
        row.split("`")[1]
        for row in (DOCS / "monitoring.md").read_text().splitlines()
        if row.startswith("| `workflows_")
    }
    assert table == {f"{metric.name}{'_total' * (metric.kind is MetricKind.COUNTER)}" for metric in METRICS}


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """With a data source to choose, ids that are all different, and panels that do not overlap."""
    dashboard = json.loads((DOCS / "monitoring" / "grafana-dashboard.json").read_text())
    assert dashboard["schemaVersion"] >= 39
    assert [one["type"] for one in dashboard["templating"]["list"]] == ["datasource", "query"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert all(target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"])


def test_each_alert_says_when_why_and_what_to_do() -> None:
    """Rules as Prometheus loads them, and the document names each of them."""
    text = (DOCS / "monitoring" / "alerts.yaml").read_text()
    [group] = yaml.safe_load(text)["groups"]
    document = (DOCS / "monitoring.md").read_text()
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert names_in(rule["expr"])
        assert f"`{rule['alert']}`" in document
    assert text.count("        # ") >= len(group["rules"])
