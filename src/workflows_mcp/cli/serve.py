"""`serve`: the MCP server."""

import asyncio
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.browser import open_browser
from workflows_mcp.cli.failures import CommandError, InterruptedRunError, UsageError, one_line
from workflows_mcp.cli.log import log_libraries
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import say
from workflows_mcp.cli.serve_client import serve_client
from workflows_mcp.cli.signals import stopped_by_signals
from workflows_mcp.server.ui.paths import UI_PATH, UiOptions
from workflows_mcp.wiring import is_in_memory

if TYPE_CHECKING:
    from workflows_mcp.server.http.doorway import Doorway
    from workflows_mcp.server.http.tokens import Tokens
    from workflows_mcp.settings import Settings

__all__ = ["serve", "serve_http"]


async def serve(
    *,
    http: Annotated[bool, Parameter(negative=())] = False,
    host: str | None = None,
    port: Annotated[int | None, Parameter(validator=Number(gte=0, lte=65535))] = None,
    stateless: Annotated[bool, Parameter(negative=())] = False,
    ui_read_only: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Be an MCP server: over stdin and stdout, up to the end of stdin, for a client that starts it; or over HTTP.

    Over HTTP it serves /mcp, /ui, /healthz, /readyz and /metrics up to Ctrl-C or SIGTERM. Then the port is free at
    once, and runs have WORKFLOWS_HTTP_GRACE_SECONDS to come to their next checkpoint, from which any server goes on
    with them. A second signal cuts that short.

    The bare `workflows-mcp` serves over stdin and stdout. Logs go to stderr.

    Args:
        http: Serve over streamable HTTP.
        host: Where to listen: 127.0.0.1 unless WORKFLOWS_HTTP_HOST says otherwise. Whatever others can reach needs
            WORKFLOWS_HTTP_TOKEN or WORKFLOWS_HTTP_TOKEN_FILE.
        port: The port: 8000 unless WORKFLOWS_HTTP_PORT says otherwise; 0: a free one, which is told.
        stateless: Keep no sessions, so that requests of clients of older protocols may go to any of several servers;
            these clients can then not be asked anything during a call. WORKFLOWS_HTTP_STATELESS sets it for good.
        ui_read_only: Have the pages at /ui only show; agents may do what they may without it.
            WORKFLOWS_HTTP_UI_READ_ONLY sets it for good.
        options: What every command takes.

    Returns:
        0, also when SIGTERM ends it: what was at work then goes on with the next server.
    """
    if not http:
        if host is not None or port is not None or stateless or ui_read_only:
            raise UsageError("--host, --port, --stateless and --ui-read-only go together with --http")
        return await serve_client(options.settings())
    settings = options.settings()
    given = {
        "http_host": host,
        "http_port": port,
        "http_stateless": stateless or None,
        "http_ui_read_only": ui_read_only or None,
    }
    settings = settings.model_copy(update={name: one for name, one in given.items() if one is not None})
    ui = UiOptions(settings.http_ui_read_only, tuple(options.words_elsewhere(settings))) if settings.http_ui else None
    return await serve_http(settings, ui=ui)


async def serve_http(settings: "Settings", *, ui: "UiOptions | None", agents: bool = True, opens: bool = False) -> int:
    """Serve over HTTP, up to Ctrl-C or SIGTERM.

    Args:
        settings: Say where, for whom, and from which database.
        ui: How the pages for people are served; None: they are not.
        agents: Whether MCP is spoken, too, and the database looked after; else only what is asked for is done.
        opens: Whether a browser is opened on the pages.

    Returns:
        0, also when SIGTERM ends it.

    Raises:
        UsageError: Others could come in without showing a token.
        CommandError: The port is taken.
    """
    from workflows_mcp.server.http.doorway import PortTakenError, open_doorway
    from workflows_mcp.server.http.tokens import load_tokens

    log_libraries("mcp", serves_many=True)
    tokens = load_tokens(settings)
    try:
        with open_doorway(settings.http_host, settings.http_port) as doorway:
            if not doorway.is_loopback and not tokens:
                raise UsageError(
                    f"others can reach {settings.http_host}, so callers must show a token: set WORKFLOWS_HTTP_TOKEN or "
                    "WORKFLOWS_HTTP_TOKEN_FILE; or listen on 127.0.0.1"
                )

            def begin(database: str) -> None:
                _begin(_told(doorway, tokens, settings, database, agents=agents, ui=ui))
                if opens:
                    open_browser(f"{doorway.origin_here}{UI_PATH}")

            await _serve(settings, doorway, tokens, ui, agents=agents, on_listening=begin)
    except PortTakenError as error:
        raise CommandError(str(error)) from None
    return 0


async def _serve(
    settings: "Settings",
    doorway: "Doorway",
    tokens: "Tokens",
    ui: "UiOptions | None",
    *,
    agents: bool,
    on_listening: Callable[[str], None],
) -> None:
    from workflows_mcp.cli.serve_end import RunsToEnd
    from workflows_mcp.server.app import build_server
    from workflows_mcp.server.http.serving import serve_http
    from workflows_mcp.server.services import open_services
    from workflows_mcp.telemetry.serving import ServerTally

    tally = ServerTally()
    with stopped_by_signals() as stop:
        try:
            async with open_services(settings, looks_after=agents) as services:
                # A server that does not look after its database goes on with nothing when it is started anew.
                command = None if agents or ui is None else ui.command
                runs = RunsToEnd(services.executor, outlives=not is_in_memory(settings), command=command)
                await serve_http(
                    build_server(services, tokens=tokens, tally=tally) if agents else None,
                    services,
                    doorway,
                    tokens=tokens,
                    tally=tally,
                    stop=stop,
                    end_runs=runs.end,
                    ui=ui,
                    on_listening=lambda: on_listening(services.store.description),
                )
            runs.tell()
        except asyncio.CancelledError:
            raise InterruptedRunError("what was under way can be recovered by any server") from None


def _begin(told: str) -> None:
    """Say that requests are answered; what has been loaded for them is not looked at for garbage any more."""
    gc.freeze()
    say(one_line(told))


def _told(
    doorway: "Doorway", tokens: "Tokens", settings: "Settings", database: str, *, agents: bool, ui: "UiOptions | None"
) -> str:
    who = "with a token" if tokens else "for everybody on this machine"
    kept = "kept in memory, and gone with this process" if is_in_memory(settings) else f"kept in the {database}"
    here = doorway.origin_here
    what = [f"MCP at {here}/mcp"] if agents else []
    what += [] if ui is None else [f"pages for people{' (read-only)' if ui.read_only else ''} at {here}{UI_PATH}"]
    where = "" if here == doorway.origin else f" (listening on {settings.http_host})"
    return f"serving {', '.join(what)}{where}, {who}; runs are {kept}; Ctrl-C or SIGTERM stops it"
