"""How much is kept of a workflow's checkpoints: limits for all workflows, and policies for some."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workflows_mcp.engine.names import check_name

__all__ = ["Limits", "RetentionPolicy", "RetentionRules", "check_most", "check_policies", "check_positive"]

_General = Literal["general"]


def check_most(value: object) -> None:
    """Make sure that a value can be the most checkpoints to keep of a workflow.

    Raises:
        ValueError: It is neither None nor a whole number of at least 1.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError("max_per_workflow must be a whole number of at least 1, or None for no limit")


def check_positive(what: str, value: object) -> None:
    """Make sure that a value is a positive, finite number.

    Raises:
        ValueError: It is not.
    """
    try:
        is_fit = isinstance(value, int | float) and not isinstance(value, bool) and 0 < float(value) < math.inf
    except OverflowError:
        is_fit = False
    if not is_fit:
        raise ValueError(f"{what} must be a positive, finite number")


@dataclass(frozen=True)
class RetentionPolicy:
    """What retention does with the checkpoints of one workflow; what it does not say is as for all workflows.

    Attributes:
        max_per_workflow: How many checkpoints are kept; None: no limit; `"general"`: as for all.
        ttl_seconds: The age in seconds after which they are deleted; None: no limit; `"general"`: as for all.
        keep_paused: Whether waiting ones are left alone; `"general"`: as for all.

    Raises:
        ValueError: A value is out of range.
    """

    max_per_workflow: int | _General | None = "general"
    ttl_seconds: float | _General | None = "general"
    keep_paused: bool | _General = "general"

    def __post_init__(self) -> None:
        if self.max_per_workflow != "general":
            check_most(self.max_per_workflow)
        if self.ttl_seconds not in {None, "general"}:
            check_positive("ttl_seconds", self.ttl_seconds)
        if self.keep_paused != "general" and type(self.keep_paused) is not bool:
            raise ValueError("keep_paused must be True or False")


def check_policies(policies: object) -> dict[str, RetentionPolicy]:
    """Policies by the names of their workflows, in a mapping of one's own.

    Raises:
        ValueError: A name is not fit to be one, or something else is no policy.
    """
    if not isinstance(policies, Mapping):
        raise ValueError("policies must map the names of workflows to policies")  # noqa: TRY004 - as all bad values
    for name, policy in policies.items():
        check_name("the name of a workflow with a policy", name)
        if not isinstance(policy, RetentionPolicy):
            raise ValueError(f"the policy of workflow {name!r} must be a RetentionPolicy")  # noqa: TRY004 - as above
    return dict(policies)


@dataclass(frozen=True)
class Limits:
    """How much is kept, with nothing left open.

    Attributes:
        max_per_workflow: How many checkpoints of a workflow; None: no limit.
        ttl_seconds: Up to which age in seconds; None: no limit.
        keep_paused: Whether waiting ones are left alone.
    """

    max_per_workflow: int | None = None
    ttl_seconds: float | None = None
    keep_paused: bool = True

    def under(self, policy: RetentionPolicy) -> "Limits":
        """The same for a workflow that has a policy of its own."""
        return Limits(
            self.max_per_workflow if policy.max_per_workflow == "general" else policy.max_per_workflow,
            self.ttl_seconds if policy.ttl_seconds == "general" else policy.ttl_seconds,
            self.keep_paused if policy.keep_paused == "general" else policy.keep_paused,
        )


@dataclass(frozen=True)
class RetentionRules:
    """What one round of retention goes by.

    Attributes:
        general: For all workflows without limits of their own; None: those are not looked at.
        own: For some workflows, by name.
    """

    general: Limits | None
    own: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, workflow_name: str) -> Limits | None:
        """What goes for a workflow; None: nothing of it is looked at."""
        return self.own.get(workflow_name, self.general)
