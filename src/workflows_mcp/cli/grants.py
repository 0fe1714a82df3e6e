"""`db grants`: SQL that gives each PostgreSQL role no more than it needs."""

import sys
from typing import Annotated

from cyclopts import Parameter

from workflows_mcp.cli.database import open_schema
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import print_json

__all__ = ["grants_command"]


async def grants_command(
    *,
    owner: str,
    app: str,
    readonly: str | None = None,
    prompts: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Print the SQL that gives PostgreSQL roles what they need, and no more. Runs none of it, and asks no server.

    For psql: `workflows-mcp db grants --owner flows_owner --app flows | psql -v ON_ERROR_STOP=1 …`.

    Args:
        owner: The role that owns the tables and brings the schema up to date.
        app: The role that saves and reads checkpoints.
        readonly: A role for dashboards: it reads what a listing shows but prompts, and no payload.
        prompts: Let that role read the prompts, too, which may quote what a run works on; listings need them.
        options: What every command takes.

    Returns:
        0.
    """
    sql = open_schema(options.settings()).grants(owner=owner, app=app, readonly=readonly, prompts=prompts)
    if options.json:
        print_json({"sql": sql})
    else:
        sys.stdout.write(sql)
    return 0
