"""`checkpoints prune`: a round of retention, now, or what it would do."""

import asyncio
import dataclasses
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from workflows_mcp.cli.checkpoints import when
from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.durations import parse_duration
from workflows_mcp.cli.failures import InterruptedRunError, UsageError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.cli.progress import progress
from workflows_mcp.engine.durations import shown_duration
from workflows_mcp.persistence.sizes import shown_bytes

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.policies import Limits, RetentionRules
    from workflows_mcp.engine.retention_plan import Fate, WorkflowPlan

__all__ = ["prune_command"]


async def prune_command(
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    list_all: Annotated[bool, Parameter(name="--list", negative=())] = False,
    older_than: str | None = None,
    keep: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    workflow: str | None = None,
    include_paused: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Delete old checkpoints now, as the settings say or by limits of your own; `--dry-run` says which, and why.

    What is pinned, held by a process, or the newest of a run that can be recovered is kept, whatever its age.

    Args:
        dry_run: Change nothing, and say what would go.
        list_all: With --dry-run: name each checkpoint that would go, and each that is kept although it is old.
        older_than: Delete what is older than this (90s, 30min, 12h, 7d, 2w), in place of the limits of the settings.
        keep: Keep so many of each workflow, the newest ones, in place of the limits of the settings.
        workflow: Only this workflow's. Without it, --older-than and --keep leave alone those with a policy of their
            own.
        include_paused: Delete those that wait for an answer, too.
        options: What every command takes.

    Returns:
        0.
    """
    if list_all and not dry_run:
        raise UsageError("--list goes together with --dry-run: it names what would go")
    age = None if older_than is None else parse_duration("--older-than", older_than)
    if workflow is not None:
        check_id("--workflow", workflow)
    rules = _rules(options, age, keep, workflow, include_paused=include_paused)
    async with open_store(options) as store:
        if dry_run:
            return await _tell_plan(store, rules, options, list_all=list_all)
        return await _delete(store, rules, options)


def _rules(
    options: Options, age: float | None, keep: int | None, workflow: str | None, *, include_paused: bool
) -> "RetentionRules":
    """What the settings say, unless what was typed says otherwise."""
    from workflows_mcp.engine.checkpoint import CheckpointConfig
    from workflows_mcp.engine.policies import Limits, RetentionRules

    rules = CheckpointConfig.from_settings(options.settings()).retention_rules

    def typed(limits: Limits) -> Limits:
        if age is not None or keep is not None:
            limits = Limits(keep, age, limits.keep_paused)
        return dataclasses.replace(limits, keep_paused=limits.keep_paused and not include_paused)

    general = rules.general or Limits()
    if workflow is not None:
        return RetentionRules(None, {workflow: typed(rules.of(workflow) or general)})
    has_typed = age is not None or keep is not None
    return RetentionRules(
        typed(general), {name: Limits() if has_typed else typed(limits) for name, limits in rules.own.items()}
    )


async def _delete(store: "CheckpointStore", rules: "RetentionRules", options: Options) -> int:
    from workflows_mcp.engine.retention import retain
    from workflows_mcp.errors import CheckpointStoreError

    done = 0
    with progress("checkpoints", "deleted") as told:

        def on_deleted(count: int) -> None:
            nonlocal done
            done += count
            told("deleted", done, None)

        try:
            deleted = await retain(store, rules, on_deleted=on_deleted)
        except asyncio.CancelledError:
            raise InterruptedRunError(f"{done:,} checkpoints were deleted by then") from None
        except CheckpointStoreError:
            say(f"{done:,} checkpoints were deleted")
            raise
    if options.json:
        total = deleted.by_age + deleted.by_count
        print_json({"deleted": total, "by_age": deleted.by_age, "by_count": deleted.by_count})
        return 0
    out = Page(sys.stdout)
    _tell_rules(out, rules)
    out.line(f"deleted: {deleted.by_age:,} by their age, {deleted.by_count:,} by their number")
    return 0


async def _tell_plan(store: "CheckpointStore", rules: "RetentionRules", options: Options, *, list_all: bool) -> int:
    from workflows_mcp.engine.retention_plan import WorkflowPlan, plan_retention, summarize

    out = Page(sys.stdout)
    plans: dict[str, WorkflowPlan] = {}
    listed: list[dict[str, Any]] = []
    looked_at = 0
    with progress("checkpoints", "looked at") as told:
        async for fate in plan_retention(store, rules):
            summarize(plans, fate)
            looked_at += 1
            told("looked at", looked_at, None)
            if list_all and (fate.goes is not None or fate.stays is not None):
                if options.json:
                    listed.append(_as_data(fate))
                else:
                    out.line(_line(fate))
    if options.json:
        data = {"dry_run": True, **_totals(plans.values()), "workflows": {n: _totals([p]) for n, p in plans.items()}}
        print_json({**data, "checkpoints": listed} if list_all else data)
        return 0
    _tell_rules(out, rules)
    if not plans:
        out.line("There are no checkpoints here that it would look at.")
        return 0
    rows = [_row(name, plan) for name, plan in sorted(plans.items())]
    if len(plans) > 1:
        rows.append(["(all)", *_row("", _sum(plans.values()))[1:]])
    out.table(["workflow", "checkpoints", "go by age", "go by count", "size", "kept all the same"], rows)
    out.line("Nothing was changed. The same without --dry-run deletes what goes.")
    return 0


def _tell_rules(out: Page, rules: "RetentionRules") -> None:
    named: list[tuple[str, Limits]] = [] if rules.general is None else [("all workflows", rules.general)]
    named += [(f"workflow {name}", limits) for name, limits in rules.own.items()]
    for name, limits in named:
        words = []
        if limits.ttl_seconds is not None:
            words.append(f"what is older than {shown_duration(limits.ttl_seconds)}")
        if limits.max_per_workflow is not None:
            words.append(f"all but the newest {limits.max_per_workflow:,}")
        if words and not limits.keep_paused:
            words.append("of what waits for an answer, too")
        out.line(one_line(f"{name}: {', '.join(words) or 'nothing is to go'}"))


def _row(name: str, plan: "WorkflowPlan") -> list[str]:
    kept = ", ".join(f"{count:,} {why}" for why, count in sorted(plan.kept.items())) or "-"
    size = shown_bytes(plan.stored_bytes) if plan.goes else "-"
    return [name, f"{plan.total:,}", f"{plan.by_age:,}", f"{plan.by_count:,}", size, kept]


def _sum(plans: "Iterable[WorkflowPlan]") -> "WorkflowPlan":
    from workflows_mcp.engine.retention_plan import WorkflowPlan

    total = WorkflowPlan()
    for plan in plans:
        for name in ("total", "by_age", "by_count", "full_bytes", "stored_bytes"):
            setattr(total, name, getattr(total, name) + getattr(plan, name))
        total.kept += plan.kept
    return total


def _totals(plans: "Iterable[WorkflowPlan]") -> dict[str, Any]:
    total = _sum(plans)
    return {
        "checkpoints": total.total,
        "would_delete": total.goes,
        "by_age": total.by_age,
        "by_count": total.by_count,
        "full_bytes": total.full_bytes,
        "stored_bytes": total.stored_bytes,
        "kept_all_the_same": {str(why): count for why, count in sorted(total.kept.items())},
    }


def _as_data(fate: "Fate") -> dict[str, Any]:
    return {
        "checkpoint_id": fate.metadata.checkpoint_id,
        "workflow_name": fate.metadata.workflow_name,
        "created_at": fate.metadata.created_at,
        "goes_by": fate.goes,
        "kept_because": None if fate.stays is None else str(fate.stays),
    }


def _line(fate: "Fate") -> str:
    why = f"goes by {fate.goes}" if fate.goes is not None else f"stays: {fate.stays}"
    one = fate.metadata
    return one_line(f"{why:<20} {when(one.created_at)}  {one.workflow_name}  {one.checkpoint_id}")
