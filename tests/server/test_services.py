"""What a server does by itself, besides what it is asked."""

from pathlib import Path

import pytest

from tests.server.conversation import settings_of, talking, until
from workflows_mcp.server import services


async def test_a_run_that_another_server_has_let_go_of_is_taken_up_soon(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within seconds, however long a lease is."""
    assert services._SECONDS_BETWEEN_LOOKS <= 5
    monkeypatch.setattr(services, "_SECONDS_BETWEEN_LOOKS", 0.05)
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    settings = settings_of(tmp_path, database_url, lease_seconds=3600)
    async with talking(settings) as second:
        async with talking(settings) as first:
            inputs = {"gate": str(gate), "mark": str(mark)}
            await first.ok("execute_workflow", workflow="wait_for", inputs=inputs, run_id="one", wait=False)
            await until(mark.exists)
        gate.touch()
        assert (await second.ok("get_run", run_id="one", wait_seconds=10)).data["status"] == "success"
    assert mark.read_text() == "x\nx\n"
