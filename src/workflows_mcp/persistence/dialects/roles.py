"""Who does what with a database that has roles."""

from dataclasses import dataclass

from workflows_mcp.errors import StoreConfigurationError

__all__ = ["Roles"]


@dataclass(frozen=True)
class Roles:
    """The names of roles.

    Attributes:
        owner: Owns the tables and brings the schema up to date.
        app: Saves and reads checkpoints: what stores log in as.
        readonly: Reads neither payloads nor lease owners, nor what else is not for dashboards; None: nobody does.

    Raises:
        StoreConfigurationError: Two are the same.
    """

    owner: str
    app: str
    readonly: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names):
            raise StoreConfigurationError(
                "one role was named twice; who owns the tables may drop them, and so needs a role of its own"
            )

    @property
    def names(self) -> list[str]:
        """All of them, the owner first."""
        return [name for name in (self.owner, self.app, self.readonly) if name is not None]
