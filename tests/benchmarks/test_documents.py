"""What the documents say about speed is what a result file says."""

from benchmarks.report import text_report, with_targets
from benchmarks.results import read_results
from tests.documents.pieces import ROOT

RESULTS = ROOT / "docs" / "performance" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"


def test_the_targets_in_the_document_are_those_of_the_results() -> None:
    """`python3 run.py bench render docs/performance/results.json` makes them so."""
    text = DOCUMENT.read_text()
    assert with_targets(text, read_results(RESULTS)) == text
    assert f"They are of {read_results(RESULTS).date[:10]}," in text
    assert "| sqlite | save_1kb:" in text


def test_the_report_is_that_of_the_results() -> None:
    """Also the command that made them."""
    results = read_results(RESULTS)
    assert results.command in DOCUMENT.read_text()
    for path in RESULTS.parent.rglob("results.json"):
        results = read_results(path)
        assert path.with_name("results.txt").read_text() == text_report(results)
        assert not results.is_quick
