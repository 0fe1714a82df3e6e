"""Finds the workflow that a name, a path or a text stands for, and makes it ready to run."""

import asyncio

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.disabling import DisabledBlocks
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.engine.plan import Plan, plan_workflow
from workflows_mcp.engine.workflow import WorkflowName, WorkflowSource, read_workflow
from workflows_mcp.errors import WorkflowNotFoundError

__all__ = ["PlanFinder"]


class PlanFinder:
    """Knows the workflows that were registered, and those of a library.

    Args:
        library: Where names are looked up that are not registered; None: nowhere.
        disabled: Block types with which a workflow cannot run here.
    """

    def __init__(self, library: WorkflowLibrary | None, disabled: DisabledBlocks | None = None) -> None:
        self._library = library
        self._disabled = DisabledBlocks() if disabled is None else disabled
        self._registered: dict[str, Plan] = {}
        self._planned: dict[str, Plan] = {}

    def register(self, source: WorkflowSource) -> Plan:
        """Make a workflow known under its name; see `WorkflowExecutor.load_workflow`."""
        plan = self._read_plan(source)
        self._registered[plan.definition.name] = plan
        return plan

    def find_named(self, name: str) -> Plan | None:
        """The workflow of a name; None: there is none.

        Raises:
            WorkflowDefinitionError: It cannot run.
        """
        if name in self._registered:
            return self._registered[name]
        definition = None if self._library is None else self._library.find(name)
        if definition is None:
            return None
        plan = self._planned.get(name)
        if plan is None or plan.definition is not definition:
            plan = self._planned[name] = plan_workflow(definition)
        self._disabled.check(plan)
        return plan

    async def find(self, workflow: WorkflowSource) -> Plan:
        """The workflow of a name, or the one that a definition, a path or a text stands for.

        Raises:
            WorkflowNotFoundError: No workflow has this name, and no file this path.
            WorkflowDefinitionError: It cannot run.
        """
        if isinstance(workflow, str) and workflow in self._registered:
            return self._registered[workflow]
        # A large file takes a while to read and compile.
        return await asyncio.to_thread(self._find, workflow)

    def _find(self, workflow: WorkflowSource) -> Plan:
        is_name = isinstance(workflow, WorkflowName)
        if isinstance(workflow, str) and (is_name or "\n" not in workflow):
            plan = self.find_named(workflow)
            if plan is not None:
                return plan
        if is_name:
            raise WorkflowNotFoundError(f"there is no workflow {workflow!r}")
        try:
            return self._read_plan(workflow)
        except WorkflowNotFoundError as error:
            known = sorted({*self._registered, *(() if self._library is None else self._library.names())})
            if not isinstance(workflow, str) or not known:
                raise
            raise WorkflowNotFoundError(
                f"{error}, and there is no workflow of this name; there are {', '.join(known)}"
            ) from None

    def _read_plan(self, source: WorkflowSource) -> Plan:
        definition = read_workflow(source)
        is_path = not isinstance(source, WorkflowDefinition) and "\n" not in str(source)
        plan = plan_workflow(definition, str(source) if is_path else None)
        self._disabled.check(plan)
        return plan
