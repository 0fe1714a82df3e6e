"""Where the documents are that messages point to: they are not installed with the package."""

__all__ = ["FOLDER", "document"]

FOLDER = "https://github.com/workflows-mcp/workflows-mcp/blob/main/docs"
"""Stands here too, beside the project's URLs, since a look into the package's metadata costs each start 10 ms."""


def document(name: str) -> str:
    """The URL of a document, by its name in `docs/` without the ending."""
    return f"{FOLDER}/{name}.md"
