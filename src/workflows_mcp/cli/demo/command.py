"""The demo as a command: a run, a kill, a recovery, an answer."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from workflows_mcp.cli.demo.example import default_folder, find_workflow
from workflows_mcp.cli.demo.story import Story
from workflows_mcp.cli.failures import CommandError, InterruptedRunError
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.cli.signals import cancelled_by_signals

__all__ = ["demo"]


async def demo(*, path: Path | None = None, response: str | None = None, options: Options = DEFAULT_OPTIONS) -> int:
    """Watch a run survive kill -9: the release check of a folder, killed in the middle, and continued.

    Nothing in the folder is changed. The checkpoints stay in a SQLite file, to be looked at afterwards.

    Args:
        path: The folder to check: by default the checkout that this program was started from, or else the current one.
        response: What the demo answers when the workflow asks for approval: by itself `approve`, or `not ready yet`
            when the report says so.
        options: What every command takes; without `--database-url` the database is a new file in the folder for
            temporary files, whatever the environment says.

    Returns:
        0: all went as it should.
    """
    folder = (default_folder() if path is None else path).expanduser().resolve()
    if not folder.is_dir():
        raise CommandError(f"there is no folder {str(folder)!r}; name one with --path")
    owns_database = options.database_url is None
    if owns_database:
        database = Path(tempfile.mkdtemp(prefix="workflows-mcp-demo-")) / "checkpoints.db"
        options = Options(str(database), options.env_file, options.json)
    page = Page(sys.stderr if options.json else sys.stdout)
    story = Story(page, find_workflow(), folder, options, owns_database=owns_database)
    try:
        with cancelled_by_signals():
            told = await _tell(story, response)
    except asyncio.CancelledError:
        again = command_line("recover", ids=[story.run_id], options=options)
        raise InterruptedRunError(f"the worker is stopped; what it had saved goes on with: {again}") from None
    if options.json:
        print_json(told)
    return 0


async def _tell(story: Story, response: str | None) -> dict[str, Any]:
    await story.prepare()
    await story.run_and_kill()
    await story.look_into_database()
    await story.recover()
    await story.answer(response)
    return await story.end()
