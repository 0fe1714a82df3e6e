"""For tests: small states, and the contract of a checkpoint store for people who write a store of their own.

`make_state` and `assert_same` need nothing else. The contract needs `pytest` and `pytest-asyncio`, in either of its
modes. Derive a class and give it a fixture named `store` that yields an empty store::

    class TestMyStore(CheckpointStoreContract):
        @pytest_asyncio.fixture
        async def store(self):
            async with MyStore() as store:
                yield store
"""

from typing import TYPE_CHECKING, Any

from workflows_mcp.testing.values import assert_same, make_state

if TYPE_CHECKING:
    from workflows_mcp.testing.contract import CheckpointStoreContract

__all__ = ["CheckpointStoreContract", "assert_same", "make_state"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as of any module
    """The contract is imported when it is asked for, since pytest is no dependency of the package."""
    if name != "CheckpointStoreContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workflows_mcp.testing.contract import CheckpointStoreContract

    globals()[name] = CheckpointStoreContract
    return CheckpointStoreContract


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
