"""Commands that print secrets."""

import os

from workflows_mcp.persistence.commands import Printed, run


def test_a_command_that_prints_too_much_is_ended() -> None:
    """What it printed is no secret that anybody could want."""
    printed = run(["yes"], 20, 1_000, own_session=True)
    assert isinstance(printed, Printed)
    assert (len(printed.output), printed.code) == (1_001, None)
    assert run(["printf", "1234"], 20, 4, own_session=True) == Printed(b"1234", 0)
    assert "1234" not in repr(Printed(b"1234", 0))


def test_a_command_reads_nothing_that_is_meant_for_the_server() -> None:
    """As a client's messages, where those come on stdin."""
    ours, theirs = os.pipe()
    before = os.dup(0)
    os.dup2(ours, 0)
    try:
        os.write(theirs, b"a message")
        os.close(theirs)
        assert run(["cat"], 20, 100, own_session=False) == Printed(b"", 0)
        assert os.read(0, 100) == b"a message"
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(ours)
