"""`{{ … }}` in the texts of a workflow: Jinja2 expressions in a sandbox, compiled once, with bounded work."""

from workflows_mcp.engine.expressions.metering import MAX_RESULT, MAX_WORK, ExpressionError, bounded_work
from workflows_mcp.engine.expressions.sandbox import DICT_METHODS
from workflows_mcp.engine.expressions.template import (
    MAX_EXPRESSIONS,
    MAX_TEMPLATE,
    Compiled,
    Reference,
    Template,
    bounded_compilation,
    compile_value,
    references_in,
    render,
)

__all__ = [
    "DICT_METHODS",
    "MAX_EXPRESSIONS",
    "MAX_RESULT",
    "MAX_TEMPLATE",
    "MAX_WORK",
    "Compiled",
    "ExpressionError",
    "Reference",
    "Template",
    "bounded_compilation",
    "bounded_work",
    "compile_value",
    "references_in",
    "render",
]
