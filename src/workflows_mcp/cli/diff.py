"""`checkpoints diff`: what differs between two checkpoints."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.checkpoints import when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.failures import CommandError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id, command_line
from workflows_mcp.cli.page import Page, print_json
from workflows_mcp.persistence.sizes import brief_bytes

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.comparing import Comparison
    from workflows_mcp.engine.differences import Change
    from workflows_mcp.engine.glimpses import Glimpse

__all__ = ["diff_command"]

_MOST_CHANGES = 200

_MOST_TO_ASK_FOR = 1_000_000

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}
_STYLES = {"added": "green", "changed": "yellow", "removed": "red"}


async def diff_command(
    checkpoint_id: Annotated[str, Parameter(name="CHECKPOINT")],
    other_id: Annotated[str | None, Parameter(name="OTHER")] = None,
    /,
    *,
    full: Annotated[bool, Parameter(negative=())] = False,
    limit: Annotated[int | None, Parameter(validator=Number(gte=1, lte=_MOST_TO_ASK_FOR))] = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Show what differs between two checkpoints: `+` was added, `~` changed, `-` was removed, by path.

    Args:
        checkpoint_id: The checkpoint to begin with, or the only one.
        other_id: What it is compared with, of any run. Without it, the first is compared with the one before it in its
            run.
        full: Show values whole, also large ones.
        limit: The most changes to show; 200, but for --json, which has all.
        options: What every command takes.

    Returns:
        0, whether anything differs or not.
    """
    from workflows_mcp.engine.comparing import compare_checkpoints
    from workflows_mcp.engine.secrets import Secrets
    from workflows_mcp.errors import CheckpointNotFoundError

    for name in (checkpoint_id, other_id):
        if name is not None:
            check_id("the checkpoint's id", name)
    most = limit if limit is not None or options.json else _MOST_CHANGES
    async with open_store(options) as store:
        try:
            found = await compare_checkpoints(store, checkpoint_id, other_id, Secrets().scrub_now, most=most)
        except CheckpointNotFoundError as error:
            raise CommandError(await _not_found(store, error, (checkpoint_id, other_id), options)) from None
    try:
        if options.json:
            print_json(_as_data(found))
        else:
            _show(Page(sys.stdout), found, full=full)
    except RecursionError:
        raise CommandError(
            "a value that differs is nested too deeply to be shown whole; without --full it is cut"
        ) from None
    return 0


async def _not_found(
    store: "CheckpointStore", error: Exception, names: tuple[str | None, ...], options: Options
) -> str:
    """Why there is nothing to compare, and how to go on; somebody may have named a run."""
    for run_id in filter(None, names):
        if newest := await store.list_checkpoints(run_id=run_id, limit=1):
            compare = command_line("checkpoints", "diff", ids=[newest[0].checkpoint_id], options=options)
            listing = command_line("checkpoints", "list", f"--run={run_id}", options=options)
            return f"{error}, but there is such a run; what it saved last: {compare}; its checkpoints: {listing}"
    return f"{error}; those that there are: {command_line('checkpoints', 'list', options=options)}"


def _as_data(found: "Comparison") -> dict[str, Any]:
    from workflows_mcp.engine.comparing import ABOUT

    def side(fields: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if fields is None else {name: fields[name] for name in (*ABOUT, "status", "current_wave_index")}

    return {
        "before": side(found.before),
        "after": side(found.after),
        "counts": dict(found.difference.counts),
        "more": found.difference.more,
        "changes": [_change_as_data(one) for one in found.difference.changes],
    }


def _change_as_data(change: "Change") -> dict[str, Any]:
    from workflows_mcp.engine.differences import ABSENT

    values = {name: value for name in ("before", "after") if (value := getattr(change, name)) is not ABSENT}
    return {"kind": change.kind, "path": change.path, "pointer": change.pointer, **values}


def _show(out: Page, found: "Comparison", *, full: bool) -> None:
    _show_sides(out, found)
    out.line()
    difference = found.difference
    if not difference.total:
        out.line("Nothing else differs." if found.about.total else "Nothing differs.")
        return
    out.line(", ".join(f"{count:,} {kind}" for kind, count in difference.counts.items() if count))
    for change in difference.changes:
        text = f"{_SIGNS[change.kind]} {one_line(change.path)}"
        out.line(f"{text}{_values(change, full=full)}", style=_STYLES[change.kind])
    if difference.more:
        how = f"--limit {difference.total}" if difference.total <= _MOST_TO_ASK_FOR else "--json, which has all"
        out.line(f"… and {difference.more:,} more: see them with {how}")


def _show_sides(out: Page, found: "Comparison") -> None:
    after, before = found.after, found.before
    for name, side in (("before", before), ("after", after)):
        if side is not None:
            out.line(one_line(f"{name:<6}  {side['checkpoint_id']}  {_in_short(side)}"))
    if before is None:
        out.line(
            "It belongs to no run, so there is none before it: it is compared with nothing."
            if after["run_id"] is None
            else one_line(f"It is the first that is kept of run {after['run_id']}: it is compared with nothing.")
        )
    elif found.is_of_one_run:
        out.line(one_line(f"Both are of run {after['run_id']} of {after['workflow_name']}."))
    else:
        of = [f"run {one['run_id'] or '-'} of {one['workflow_name']}" for one in (before, after)]
        what = "different runs" if found.is_of_one_workflow else "runs of different workflows"
        out.line(one_line(f"They are of {what}: {of[0]}, and {of[1]}."))


def _in_short(side: dict[str, Any]) -> str:
    return f"{side['status']}, wave {side['current_wave_index']}, {when(side['created_at'])}"


def _values(change: "Change", *, full: bool) -> str:
    if full:
        return _whole_values(change)
    from workflows_mcp.engine.glimpses import glimpse, glimpses_of_change

    if change.kind == "changed":
        before, after = glimpses_of_change(change.before, change.after)
        return f": {_text_of(before)} → {_text_of(after)}"
    return f": {_text_of(glimpse(change.after if change.kind == 'added' else change.before))}"


def _whole_values(change: "Change") -> str:
    from workflows_mcp.engine.differences import ABSENT

    values = [one for one in (change.before, change.after) if one is not ABSENT]
    texts = [json.dumps(one, ensure_ascii=False, indent=2).replace("\n", "\n    ") for one in values]
    return ":\n    " + "\n  →\n    ".join(texts)


def _text_of(shown: "Glimpse") -> str:
    text = one_line(shown.text)
    return text if shown.is_whole else f"{text} ({brief_bytes(shown.size)})"
