"""What the comparison of MCP servers makes of its figures; `bench mcp --quick` runs all of it."""

from benchmarks.mcp_calls import Calls, Share, calls_table
from benchmarks.mcp_start import Start, starts_table


def share(run: float) -> Share:
    """Calls of which the echo takes 10 ms and the executor 5."""
    return Share("sqlite", 16, Calls(0.010, 0.02, 100.0), Calls(run, 0.03, 50.0), Calls(0.005, 0.006, 200.0))


def test_a_call_may_take_half_as_long_again_as_the_echo_and_what_the_executor_takes() -> None:
    """Not a moment longer."""
    assert share(0.020).verdict.startswith("met: ")
    assert share(0.0201).verdict.startswith("MISSED: ")
    assert "20.00 ms" in share(0.020).verdict
    assert "sqlite, 16 clients" in calls_table([share(0.020)])


def test_a_start_may_take_less_than_half_as_long_again_as_the_bare_one() -> None:
    """Only those that must be quick are judged."""
    quick, slow = Start("quick", 0.8, 1.49, has_target=True), Start("slow", 0.9, 1.5, has_target=True)
    free = Start("free", 2.0, 3.0, has_target=False)
    assert quick.verdict.startswith("met")
    assert slow.verdict.startswith("MISSED")
    assert free.verdict == ""
    assert starts_table([quick, slow, free]).count("×") == 5


def test_the_medians_of_turns_count() -> None:
    """One turn that something else slowed down changes nothing."""
    turns = [Calls(1.0, 2.0, 10.0), Calls(1.1, 2.1, 9.0), Calls(50.0, 90.0, 0.1)]
    assert Calls.of(turns) == Calls(1.1, 2.1, 9.0)
