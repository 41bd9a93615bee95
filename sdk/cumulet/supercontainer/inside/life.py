"""A member's life as its task sees it: which part of the work is mine, here is my result."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, TargetError, UsageError
from cumulet.core.files import writing
from cumulet.supercontainer.inside import merges
from cumulet.supercontainer.inside.collect import Collector
from cumulet.supercontainer.inside.deliver import Delivery
from cumulet.supercontainer.inside.door import Door
from cumulet.supercontainer.inside.merges import Merge, Merged
from cumulet.supercontainer.inside.setting import Listener, Setting, read_setting
from cumulet.supercontainer.inside.spool import hash_chunks
from cumulet.supercontainer.inside.values import CHUNK, Content, Meta, encode

if TYPE_CHECKING:
    from distributed import Client

LAST_WORDS: Final = Path("/dev/termination-log")
LINGER_SECONDS: Final = 60.0
"""After a failure, so long the others are waited for to be told why."""
Items = TypeVar("Items", bound=Any)


class Member:
    """This container. `from cumulet.supercontainer import member` gives the one that the environment describes."""

    def __init__(self, setting: Setting, listen: Listener | None = None) -> None:
        self.setting = setting
        self._listen = listen = listen or logging.getLogger("cumulet.supercontainer").info
        self._state = "computing"
        self._message = ""
        self._contributed = False
        # The others' results are welcome while this one still works on its own.
        self._collector = Collector(setting, listen) if setting.merges else None
        self._door = Door(setting, self._tell) if setting.merges and setting.door else None
        if self._collector is not None and setting.keep == "stored":
            self._find_stored(self._collector)

    @property
    def index(self) -> int:
        """Which one of the members this is, from 0 on."""
        return self.setting.index

    @property
    def size(self) -> int:
        """How many members there are."""
        return self.setting.size

    @property
    def peers(self) -> tuple[str, ...]:
        """host:port of every member, this one too."""
        return self.setting.peers

    @property
    def merging(self) -> bool:
        """Whether this member merges the results."""
        return self.setting.merges

    def shard(self, items: Items) -> Items:
        """This member's part of a list, range or array: all parts together are the whole, in order, none missing."""
        try:
            count = len(items)
        except TypeError as error:
            raise UsageError("shard() takes something that has a length", hint="member.shard(list(items))") from error
        part: Items = items[count * self.index // self.size : count * (self.index + 1) // self.size]
        return part

    def contribute(self, result: Any, merge: Merge = "concatenate") -> Merged | None:
        """Hand over this member's result; comes back when the result of all is safe. Once in a member's life.

        `result`: bytes, a Path, a numpy array, what JSON can hold, or None. `merge`: `concatenate`, `sum`, `mean`,
        `argmax`, `one`, or a function that gets the results in the order of the members. The merging member gets
        the merged result back, the others None. Raises UsageError and TargetError.
        """
        if self._contributed:
            raise UsageError("a member contributes once", hint="contribute everything as one result")
        self._contributed = True
        content = encode(result)
        deadline = Deadline.after(self.setting.seconds)
        try:
            if self._collector is None:
                Delivery(self.setting, content, self._listen).run(deadline)
                return None
            if not callable(merge):
                merges.find_merge(merge)
            return self._merge(self._collector, content, merge, deadline)
        except CumuletError as error:
            self._fail(error)
            raise

    def distribute(self, function: Callable[[Client], Any]) -> Merged | None:
        """Engine `dask`: run a function on the merging member with a Client whose workers are the other members.

        What it returns is the result. Raises UsageError with another engine.
        """
        if self.setting.engine != "dask":
            raise UsageError("distribute() needs the engine dask", hint="cumulet super run --engine dask")
        from cumulet.supercontainer.inside import dask_engine  # noqa: PLC0415 - heavy, and an extra

        if self._collector is not None:
            if self._state == "safe":
                return self.contribute(None, "one")
            return self.contribute(dask_engine.run_client(self.setting, function, self._listen), "one")
        with dask_engine.working(self.setting, self._listen):
            return self.contribute(None, "one")

    def close(self) -> None:
        """Stop listening; a task that ends need not."""
        for each in (self._collector, self._door):
            if each is not None:
                each.close()

    def _merge(self, collector: Collector, content: Content, merge: Merge, deadline: Deadline) -> Merged:
        stored = self._read_stored() if self._state == "safe" else None
        if stored is None:
            self._state = "collecting"
            collector.add(content)
            collector.wait(deadline)
            self._change("merging")
            parts = [collector.spool.whole[index] for index in range(self.size)]
            merged = merges.run_merge(merge, parts, collector.spool.folder)
            self._change("merged")
            stored = self._make_safe(merged, deadline)
        self._change("safe")
        # Whoever has not heard it would hand its result over for ever.
        if not collector.finish({"do": "safe"}, deadline):
            self._listen("not all members have heard that the result is safe")
        return stored

    def _make_safe(self, merged: Merged, deadline: Deadline) -> Merged:
        if self.setting.keep == "stored":
            return self._store(merged)
        if self._door is None:
            return merged
        self._door.merged = merged
        while not self._door.taken.wait(min(1.0, deadline.left)):
            if deadline.passed:
                raise TargetError(f"nobody has taken the result within {deadline.seconds:.0f} s", hint="keep: stored")
        return merged

    def _fail(self, error: CumuletError) -> None:
        self._state, self._message = "failed", error.message
        # Kubernetes shows it as the container's last message.
        with contextlib.suppress(OSError):
            if LAST_WORDS.exists():
                LAST_WORDS.write_text(json.dumps({"final": self.merging, "message": error.message}))
        if self._collector is not None:
            self._collector.finish({"do": "failed", "why": error.message}, Deadline.after(LINGER_SECONDS))

    def _change(self, state: str) -> None:
        self._state = state
        self._listen(state)

    def _tell(self) -> dict[str, Any]:
        """What the door answers."""
        collector, door = self._collector, self._door
        return {
            "state": self._state,
            "message": self._message,
            "missing": collector.missing if collector is not None else [],
            "nodes": {str(index): node for index, node in (collector.nodes if collector is not None else {}).items()},
            "result": door.merged.to_values() if door is not None and door.merged is not None else None,
        }

    @property
    def _stored_at(self) -> Path:
        return self.setting.store / self.setting.job

    def _store(self, merged: Merged) -> Merged:
        """Put the result into the store; the description last, which says that it is whole."""
        target = self._stored_at / "result"
        with writing(target) as stream:
            for start in range(0, merged.size, CHUNK):
                stream.write(merged.read(start, CHUNK))
        digests = [each.hex() for each in hash_chunks(target)]
        with writing(self._stored_at / "result.json") as stream:
            stream.write(json.dumps({**merged.to_values(), "chunks": digests}).encode())
        return Merged(target, merged.meta, merged.size, merged.sha256)

    def _read_stored(self) -> Merged | None:
        """What an earlier start has stored, if it is still what it was."""
        target = self._stored_at / "result"
        try:
            values = json.loads((self._stored_at / "result.json").read_text())
            if [each.hex() for each in hash_chunks(target)] != values["chunks"]:
                return None
            return Merged(target, Meta.from_values(values["meta"]), values["size"], values["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _find_stored(self, collector: Collector) -> None:
        if self._read_stored() is not None:
            self._change("safe")
            collector.finish({"do": "safe"}, Deadline.after(0))


def load_member() -> Member:
    """The member that this process's environment describes. Raises UsageError where there is none."""
    return Member(read_setting(os.environ))
