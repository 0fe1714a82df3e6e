"""LangGraph's checkpoint savers as a graph uses them whose nodes each write a channel of their own."""

from typing import Any

from benchmarks.contenders.base import content_of
from benchmarks.contenders.langgraph import LangGraph, LangGraphPostgreSQL, LangGraphSQLite
from workflows_mcp import CheckpointState

__all__ = ["ChannelsPostgreSQL", "ChannelsSQLite"]

_RUN, _WAVE, _BLOCK = "run", "wave", "block:"


class _Channels(LangGraph):
    """One run. A channel's value is stored anew only when it changes, as far as the saver can do that.

    What a graph stores besides is left out, in LangGraph's favour: pending writes, which hold each output once more,
    and which node has seen which version. So is the list of the blocks that are over, which the channels tell.
    """

    def __init__(self) -> None:
        super().__init__()
        self._versions: dict[str, str] = {}
        self._parent: dict[str, str] = {}

    async def save(self, state: CheckpointState) -> None:
        """See `Contender.save`."""
        content = content_of(state)
        blocks = content["context"]["blocks"]
        values = {
            _WAVE: content.pop("current_wave_index"),
            **{f"{_BLOCK}{name}": dict(blocks[name]) for name in blocks},
        }
        del content["completed_blocks"]
        values[_RUN] = {**content, "context": {**content["context"], "blocks": {}}}
        version = self._saver.get_next_version(max(self._versions.values(), default=None), None)
        changed = {name: version for name in values if name not in self._versions or name == _WAVE}
        self._versions |= changed
        await self._put(state, values, dict(self._versions), changed, **self._parent)
        self._parent = {"checkpoint_id": state.checkpoint_id}

    def content(self, loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - see `Contender.content`
        """See `Contender.content`."""
        values = loaded.checkpoint["channel_values"]
        run = values[_RUN]
        # PostgreSQL gives the channels back in no order.
        over = [block for wave in run["execution_waves"] for block in wave if f"{_BLOCK}{block}" in values]
        blocks = {block: values[f"{_BLOCK}{block}"] for block in over}
        return {
            **run,
            "context": {**run["context"], "blocks": blocks},
            "completed_blocks": over,
            "current_wave_index": values[_WAVE],
        }


class ChannelsSQLite(_Channels, LangGraphSQLite):
    """`AsyncSqliteSaver`, which stores the values of all channels each time."""


class ChannelsPostgreSQL(_Channels, LangGraphPostgreSQL):
    """`AsyncPostgresSaver` with the one connection of `from_conn_string`, which stores a value once a version."""
