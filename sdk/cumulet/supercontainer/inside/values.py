"""Results as bytes, and bytes as results: bytes, files, arrays, and whatever JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cumulet.core.errors import UsageError

CHUNK: Final = 1 << 20
"""What is sent, checked and asked for again as one piece."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What the bytes are: `bytes`, `file`, `json`, `array` (in C order) or `nothing`."""

    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Meta:
        """From what `to_values` has made."""
        return cls(str(values["kind"]), str(values["dtype"]), tuple(int(each) for each in values["shape"]))

    def to_values(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Content:
    """A result as it is handed over: its bytes are in memory, where the task left them, or in a file."""

    meta: Meta
    size: int
    source: memoryview | Path

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return -(-self.size // CHUNK)

    def chunks(self, start: int = 0) -> Iterator[memoryview]:
        """The chunks from number `start` on. Raises UsageError if the file has become shorter."""
        if isinstance(self.source, memoryview):
            for number in range(start, self.count):
                yield self.source[number * CHUNK : (number + 1) * CHUNK]
            return
        with self.source.open("rb") as stream:
            stream.seek(start * CHUNK)
            for number in range(start, self.count):
                data = stream.read(min(CHUNK, self.size - number * CHUNK))
                if len(data) != min(CHUNK, self.size - number * CHUNK):
                    raise UsageError(f"{self.source}: has become shorter while it was handed over")
                yield memoryview(data)


def encode(value: Any) -> Content:
    """A result as bytes; nothing is copied that is in memory already. Raises UsageError for what cannot be sent."""
    if value is None:
        return Content(Meta("nothing"), 0, memoryview(b""))
    if isinstance(value, bytes | bytearray | memoryview):
        view = memoryview(value).cast("B")
        return Content(Meta("bytes"), len(view), view)
    if isinstance(value, Path):
        if not value.is_file():
            raise UsageError(f"{value}: no such file to contribute")
        return Content(Meta("file"), value.stat().st_size, value)
    if hasattr(value, "__array_interface__") and hasattr(value, "dtype"):
        return _encode_array(value)
    try:
        data = json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        hint = "contribute bytes, a pathlib.Path, a numpy array, or what JSON can hold"
        raise UsageError(
            f"a result of type {type(value).__name__} cannot be handed over: {error}", hint=hint
        ) from error
    return Content(Meta("json"), len(data), memoryview(data))


def decode(meta: Meta, path: Path) -> Any:
    """The result again. An array stays on the disk until it is read; a file is given as its path."""
    if meta.kind == "nothing":
        return None
    if meta.kind == "bytes":
        return path.read_bytes()
    if meta.kind == "file":
        return path
    if meta.kind == "json":
        return json.loads(path.read_bytes())
    return map_array(meta, path)


def map_array(meta: Meta, path: Path) -> Any:
    """An array that is read from its file where it is needed; one with no element or no axis is in memory."""
    import numpy as np  # noqa: PLC0415 - only tasks that have arrays have numpy

    if not meta.shape or 0 in meta.shape:
        return np.fromfile(path, dtype=np.dtype(meta.dtype)).reshape(meta.shape)
    return np.memmap(path, dtype=np.dtype(meta.dtype), mode="r", shape=meta.shape)


def _encode_array(value: Any) -> Content:
    if value.dtype.hasobject or value.dtype.fields is not None:
        raise UsageError(f"an array of {value.dtype} cannot be handed over", hint="use an array of numbers")
    import numpy as np  # noqa: PLC0415 - the task has it already

    whole = np.ascontiguousarray(value).reshape(value.shape)
    meta = Meta("array", whole.dtype.str, tuple(whole.shape))
    # An array with no element has no memory to look at.
    view = memoryview(whole.reshape(-1).view("u1").data) if whole.size else memoryview(b"")
    return Content(meta, len(view), view)
