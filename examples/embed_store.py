"""The store for an executor of your own: python examples/embed_store.py [PATH or postgresql://… URL].

Without an argument, the checkpoints go to embed_store.db in the current folder.
"""

import asyncio
import sys
import time
import uuid

from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema


async def main(url: str) -> None:
    """Save a checkpoint, load it back as another process would, and list what there is."""
    await upgrade_schema(url)  # at every start: creates the table, or brings an older one up to date
    async with SQLAlchemyCheckpointStore(url) as store:
        state = CheckpointState(
            checkpoint_id=uuid.uuid4().hex,
            workflow_name="nightly-import",
            run_id="2026-11-23",
            created_at=time.time(),
            runtime_inputs={"source": "orders.csv"},
            context={"rows_done": 1200},
            completed_blocks=["download", "parse"],
            current_wave_index=2,
            execution_waves=[["download"], ["parse"], ["load"]],
            block_definitions={"load": {"type": "MyOwnBlock"}},
            workflow_stack=[],
        )
        saved = await store.save_checkpoint(state)  # durable once this returns
        print("saved ", saved)
        print("loaded", await store.load_checkpoint(saved) == state)
        for one in await store.list_checkpoints("nightly-import", limit=5):
            print("listed", one.checkpoint_id, one.status, one.full_bytes, "bytes")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "embed_store.db"))
