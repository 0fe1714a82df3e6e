"""What axe-core has to say of a page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = ["assert_accessible"]

_OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
"""All its rules for WCAG 2.2 AA and good practice; the size of what is tapped is not among them by itself."""

_MOST_NODES = 3
"""So many are told of each rule: what is wrong with one is often wrong with many."""


async def assert_accessible(page: "Page") -> None:
    """See that axe-core finds nothing wrong with a page as it is now.

    Raises:
        AssertionError: It does; tells where, and what to do.
    """
    from axe_playwright_python.async_playwright import Axe

    found = (await Axe().run(page, options=_OPTIONS)).response["violations"]
    assert not found, f"{page.url}\n" + "\n".join(line for one in found for line in _lines_of(one))


def _lines_of(violation: dict[str, Any]) -> list[str]:
    lines = [f"{violation['id']} ({violation['impact']}): {violation['help']}; {violation['helpUrl']}"]
    nodes = violation["nodes"]
    for node in nodes[:_MOST_NODES]:
        lines.append(f"  {' '.join(map(str, node['target']))}: {node['html']}")
        lines += [f"    {line.strip()}" for line in node["failureSummary"].splitlines() if line.strip()]
    return lines + [f"  and {len(nodes) - _MOST_NODES} more"] * (len(nodes) > _MOST_NODES)
