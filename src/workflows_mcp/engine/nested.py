"""The workflows that the blocks of a run may run: found once, then kept with the run."""

from collections.abc import Callable, Mapping
from typing import Any

from workflows_mcp.engine.plain_json import sealed
from workflows_mcp.engine.plan import Plan, plan_workflow
from workflows_mcp.engine.workflow import define_workflow
from workflows_mcp.errors import BlockTypeDisabledError, WorkflowNotFoundError

__all__ = ["MAX_NESTING", "FindPlan", "NestedWorkflows"]

_DEFINITION_DEPTH = 3  # the context, its workflows, a definition

MAX_NESTING = 16
"""How many workflows may run inside one another, the outermost one not counted."""

FindPlan = Callable[[str], Plan | None]
"""Gives a workflow by its name; None: there is none."""


class NestedWorkflows:
    """The workflows that the blocks of a run may run, by name, as they were when the run first needed to know.

    Args:
        root: The run's own workflow, which its blocks may run, too.
        find_plan: Gives the others.

    Attributes:
        definitions: The others as plain JSON data by name, to be saved with the run.
    """

    def __init__(self, root: Plan, find_plan: FindPlan) -> None:
        self.definitions: dict[str, Any] = {}
        self._plans = {root.definition.name: root}
        self._find_plan = find_plan
        self._label = ""
        self._disabled: dict[str, BlockTypeDisabledError] = {}

    @classmethod
    def of(cls, root: Plan, find_plan: FindPlan) -> "NestedWorkflows":
        """For a new run: all that its workflow names, and what these name.

        Raises:
            WorkflowNotFoundError: A workflow that is named does not exist.
            WorkflowDefinitionError: One cannot run.
        """
        nested = cls(root, find_plan)
        waiting = [root]
        while waiting:
            plan = waiting.pop()
            for block_id, block in plan.blocks.items():
                name = block.nested_name
                if name is not None and name not in nested._plans:
                    try:
                        waiting.append(nested.plan(name))
                    except WorkflowNotFoundError as error:
                        where = f"workflow {plan.definition.name!r}: block {block_id!r}"
                        raise WorkflowNotFoundError(f"{where}: {error}") from None
        return nested

    @classmethod
    def from_data(
        cls, root: Plan, definitions: Mapping[str, Any], find_plan: FindPlan, label: str
    ) -> "NestedWorkflows":
        """For a run that goes on: those that were saved with it.

        Args:
            root: The run's own workflow.
            definitions: What `definitions` was.
            find_plan: Gives those that the run comes upon only now.
            label: Where the definitions come from, for messages.
        """
        nested = cls(root, find_plan)
        nested.definitions = dict(definitions)
        nested._label = label
        return nested

    def known(self, name: str) -> Plan | None:
        """The same, if it is known by now and ready to run."""
        return self._plans.get(name)

    def plan(self, name: str) -> Plan:
        """The workflow that a block may run.

        Raises:
            WorkflowNotFoundError: There is none of this name.
            BlockTypeDisabledError: It cannot run on this server. It is kept with the run all the same, so that the
                next server that is to go on with the run knows before it begins.
            WorkflowDefinitionError: It cannot run.
        """
        if name in self._disabled:
            raise self._disabled[name]
        plan = self._plans.get(name)
        if plan is None and name in self.definitions:
            plan = self.saved(name)
        if plan is None:
            try:
                plan = self._find_plan(name)
            except BlockTypeDisabledError as error:
                self._disabled[name] = error
                if error.definition is not None:
                    self.definitions[name] = sealed(error.definition, depth=_DEFINITION_DEPTH)
                raise
            if plan is None:
                raise WorkflowNotFoundError(
                    f"there is no workflow {name!r}: register it, or put its file into a folder of "
                    "WORKFLOWS_TEMPLATE_PATHS"
                )
            self.definitions[name] = sealed(plan.data, depth=_DEFINITION_DEPTH)
            self._plans[name] = plan
        return plan

    def saved(self, name: str) -> Plan:
        """The same, of one that is saved with the run.

        Raises:
            KeyError: It is not.
            WorkflowDefinitionError: It cannot run any more.
        """
        if name not in self._plans:
            label = f"workflow {name!r} in {self._label}"
            self._plans[name] = plan_workflow(define_workflow(self.definitions[name], label), label)
        return self._plans[name]
