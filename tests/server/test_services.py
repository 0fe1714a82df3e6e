"""What a server does by itself, besides what it is asked."""

from pathlib import Path

import pytest

from tests.server.conversation import settings_of, talking, until
from workflows_mcp.server import services
from workflows_mcp.server.services import open_services
from workflows_mcp.settings import load_settings


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


async def test_a_folder_of_workflows_that_is_not_there_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the whole path, to whoever runs the server; what can be read is not spoken of."""
    there = tmp_path / "there"
    there.mkdir()
    settings = load_settings(database_url="memory://", template_paths=(there, Path("absent")))
    async with open_services(settings):
        await until(lambda: bool(caplog.records))
    [record] = caplog.records
    whole = str(Path("absent").absolute())
    assert record.getMessage().startswith(f"the folder {whole!r} of WORKFLOWS_TEMPLATE_PATHS cannot be read: No such")
