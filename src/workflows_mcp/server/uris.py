"""The addresses of resources: a name may hold any character, and is written so that each is one step of a URI."""

from urllib.parse import quote

__all__ = ["CHECKPOINT_URI", "RUN_URI", "WORKFLOW_URI", "uri_of"]

WORKFLOW_URI = "workflow://{name}"
CHECKPOINT_URI = "checkpoint://{checkpoint_id}"
RUN_URI = "run://{run_id}"


def uri_of(template: str, name: str) -> str:
    """The URI of a workflow, a checkpoint or a run."""
    scheme, separator, _ = template.partition("://")
    return f"{scheme}{separator}{quote(name, safe='')}"
