"""The metrics of a command that goes on for long, over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import CommandError
from workflows_mcp.cli.page import say

if TYPE_CHECKING:
    from workflows_mcp.engine.executor import WorkflowExecutor

__all__ = ["metrics_of"]


@contextmanager
def metrics_of(executor: "WorkflowExecutor", port: int | None) -> Iterator[None]:
    """Serve the metrics of an executor and its store on the loopback address, as long as it lasts.

    Args:
        executor: What is watched.
        port: Where; 0: on any port, which is told. None: nowhere.

    Raises:
        CommandError: The port cannot be had.
    """
    if port is None:
        yield
        return
    from workflows_mcp.telemetry import instrument
    from workflows_mcp.telemetry.metrics import serve_metrics

    with instrument(executor):
        try:
            server, port = serve_metrics(port)
        except OSError as error:
            raise CommandError(
                f"port {port} of 127.0.0.1 cannot be had for metrics: {error.strerror}; choose another one with "
                "--metrics-port, or 0 for any"
            ) from None
        say(f"metrics for Prometheus: http://127.0.0.1:{port}/metrics")
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
