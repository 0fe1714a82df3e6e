"""Libraries that come with an extra of the package, or not at all."""

from importlib import import_module
from types import ModuleType

from workflows_mcp.errors import StoreConfigurationError

__all__ = ["require"]


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import what an extra installs.

    Args:
        module: What to import.
        extra: The extra of this package that installs it.
        purpose: What it is needed for, in a message.

    Raises:
        StoreConfigurationError: It is not installed; the message names the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        pass
    package = module.partition(".")[0]
    raise StoreConfigurationError(
        f"{purpose} need the package {package!r}, which is not installed; run: pip install 'workflows-mcp[{extra}]'"
    )
