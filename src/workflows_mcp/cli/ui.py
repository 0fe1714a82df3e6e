"""`ui`: pages for people in a browser."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.serve import serve_http
from workflows_mcp.server.ui.paths import UiOptions

__all__ = ["ui"]


async def ui(
    *,
    host: str | None = None,
    port: Annotated[int | None, Parameter(validator=Number(gte=0, lte=65535))] = None,
    read_only: Annotated[bool, Parameter(negative=())] = False,
    open_: Annotated[bool, Parameter(name="--open", negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Look at runs in a browser, and answer those that wait, up to Ctrl-C or SIGTERM.

    Runs that go on with an answer do so in this process, which waits WORKFLOWS_HTTP_GRACE_SECONDS for them at its end;
    nothing else is done unasked: `serve --http`, which has the same pages, and `recover --watch` look after a database.

    Args:
        host: Where to listen: 127.0.0.1 unless WORKFLOWS_HTTP_HOST says otherwise. Whatever others can reach needs
            WORKFLOWS_HTTP_TOKEN or WORKFLOWS_HTTP_TOKEN_FILE, with which people log in.
        port: The port: 8000 unless WORKFLOWS_HTTP_PORT says otherwise; 0: a free one, which is told.
        read_only: Only show; WORKFLOWS_HTTP_UI_READ_ONLY sets it for good.
        open_: Open a browser on them.
        options: What every command takes.

    Returns:
        0, also when SIGTERM ends it. A database that does not exist is an error, and is not created, but for the
        default file in your data directory.
    """
    settings = options.settings()
    given = {"http_host": host, "http_port": port, "http_ui_read_only": read_only or None}
    settings = settings.model_copy(update={name: one for name, one in given.items() if one is not None})
    async with open_store(options):
        pass  # a database that cannot be used is told here, and not by every page
    pages = UiOptions(settings.http_ui_read_only, tuple(options.words_elsewhere(settings)))
    return await serve_http(settings, ui=pages, agents=False, opens=open_)
