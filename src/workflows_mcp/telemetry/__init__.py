"""What is seen from outside: metrics for Prometheus, spans for OpenTelemetry, log lines in JSON.

`instrument` is what people who embed a store or an executor need. Neither of the two libraries is imported unless it is
asked for.
"""

from workflows_mcp.telemetry.instrumenting import Instrumentation, instrument

__all__ = ["Instrumentation", "instrument"]
