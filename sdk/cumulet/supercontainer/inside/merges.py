"""How one result is made of all of them: the table of merges, and what they take.

Parts are read from the disk piece by piece and in the order of the members, so that neither memory nor the order
in which they came plays a part in the result.
"""

from __future__ import annotations

import hashlib
import json
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import raise_os_error, writing
from cumulet.supercontainer.inside import arrays
from cumulet.supercontainer.inside.spool import Stored
from cumulet.supercontainer.inside.values import CHUNK, Meta, decode, encode

Merge = str | Callable[[Iterator[Any]], Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of all members. `sha256` is of all its bytes.

    They are in the file `path`, or still in the files of the parts, one behind the other: what is only put together
    need not be written twice.
    """

    path: Path
    meta: Meta
    size: int
    sha256: str
    parts: tuple[Path, ...] = ()

    def load(self) -> Any:
        """The result as a value; an array stays on the disk until it is read."""
        return decode(self.meta, self.file())

    def file(self) -> Path:
        """The result as one file."""
        if self.parts and not self.path.exists():
            with writing(self.path) as stream:
                for start in range(0, self.size, CHUNK):
                    stream.write(self.read(start, CHUNK))
        return self.path

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on."""
        found = b""
        for path in self.parts or (self.path,):
            size = path.stat().st_size
            if offset < size and count:
                with path.open("rb") as stream:
                    stream.seek(offset)
                    data = stream.read(count)
                found, count = found + data, count - len(data)
            offset = max(0, offset - size)
        return found

    def to_values(self) -> dict[str, Any]:
        """For JSON, without the path."""
        return {"meta": self.meta.to_values(), "size": self.size, "sha256": self.sha256}


class Writer:
    """A file that is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._size = 0
        self._parts: list[Path] = []

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises ToolError for a full disk."""
        view = memoryview(data)
        self._hash.update(view)
        self._size += len(view)
        try:
            while view:
                view = view[self._stream.write(view) :]
        except OSError as error:
            raise_os_error(error, self.path)

    def link(self, path: Path) -> None:
        """Let the bytes of a part be the next bytes of the result, where they are. Nothing else may be written."""
        buffer = memoryview(bytearray(CHUNK))
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                self._hash.update(buffer[:count])
                self._size += count
        self._parts.append(path)

    def close(self) -> None:
        """Write no more."""
        self._stream.close()

    def finish(self, meta: Meta, target: Path) -> Merged:
        """Give the file its name."""
        if self._parts:
            self.path.unlink()
            target.unlink(missing_ok=True)
        else:
            self.path.replace(target)
        return Merged(target, meta, self._size, self._hash.hexdigest(), tuple(self._parts))


def run_merge(merge: Merge, parts: Sequence[Stored], folder: Path) -> Merged:
    """Make `result` in a folder of the parts, which are in the order of the members.

    Raises TargetError naming the members that disagree, or what the task's own function raised.
    """
    writer = Writer(folder / "result.part")
    try:
        if callable(merge):
            meta = _run_function(merge, parts, writer)
        else:
            make = find_merge(merge)
            problem = find_disagreement(merge, parts)
            if problem:
                raise TargetError(problem)
            meta = make(parts, writer)
    finally:
        writer.close()
    return writer.finish(meta, folder / "result")


def find_merge(name: str) -> Callable[[Sequence[Stored], Writer], Meta]:
    """The merge of a name. Raises UsageError."""
    if name not in MERGES:
        raise UsageError(f"no such merge: {name!r}", hint=f"one of {', '.join(MERGES)}, or a function of the task's")
    return MERGES[name]


def find_disagreement(name: str, parts: Sequence[Stored]) -> str:
    """Which two members have results that cannot be merged, and why; empty if all can."""
    if name == "one":
        givers = [str(part.index) for part in parts if part.meta.kind != "nothing"]
        return "" if len(givers) == 1 else f"one result is wanted, and {' and '.join(givers) or 'nobody'} has one"
    first = parts[0]
    for part in parts:
        pair = f"members {first.index} and {part.index} disagree"
        if part.meta.kind != first.meta.kind:
            return f"{pair}: {describe(first.meta)} and {describe(part.meta)}"
        if part.meta.dtype != first.meta.dtype:
            return f"{pair} in type: {describe(first.meta)} and {describe(part.meta)}"
        if _comparable(name, part.meta) != _comparable(name, first.meta):
            return f"{pair} in shape: {first.meta.shape} and {part.meta.shape}; {name} needs {NEEDS[name]}"
    return ""


def describe(meta: Meta) -> str:
    """What a result is, as it is told."""
    if meta.kind == "array":
        return f"an array {meta.shape} of {meta.dtype}"
    return {"json": "a value", "file": "a file", "bytes": "bytes", "nothing": "nothing"}[meta.kind]


def _comparable(name: str, meta: Meta) -> object:
    if meta.kind != "array" or not meta.shape:
        return meta.shape
    return {"concatenate": meta.shape[1:], "argmax": meta.shape[:-1]}.get(name, meta.shape)


def _run_function(merge: Callable[[Iterator[Any]], Any], parts: Sequence[Stored], writer: Writer) -> Meta:
    name = getattr(merge, "__name__", "merge")
    try:
        content = encode(merge(decode(part.meta, part.path) for part in parts))
    except UsageError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        message = f"the task's merge function {name} raised {type(error).__name__}: {error} ({where})"
        raise TargetError(message, hint="correct the function and start the task again") from error
    for chunk in content.chunks():
        writer.write(chunk)
    return content.meta


def _concatenate(parts: Sequence[Stored], writer: Writer) -> Meta:
    """One behind the other: bytes, files, texts, lists, arrays along their first axis."""
    first = parts[0].meta
    if first.kind == "json":
        return _write(_join([decode(part.meta, part.path) for part in parts]), writer)
    if first.kind == "nothing" or (first.kind == "array" and not first.shape):
        raise TargetError(f"concatenate: {describe(first)} has no length", hint="merge: sum, mean or a function")
    for part in parts:
        writer.link(part.path)
    if first.kind != "array":
        return Meta("bytes")
    return Meta("array", first.dtype, (sum(part.meta.shape[0] for part in parts), *first.shape[1:]))


def _join(values: list[Any]) -> Any:
    if all(isinstance(value, list) for value in values):
        return [each for value in values for each in value]
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    raise TargetError("concatenate takes lists or texts, from all members the same", hint="merge: a function")


def _sum(parts: Sequence[Stored], writer: Writer) -> Meta:
    """Numbers, and arrays element by element."""
    if parts[0].meta.kind == "array":
        return arrays.add(parts, writer.write, mean=False)
    return _write(_add(_numbers("sum", parts)), writer)


def _mean(parts: Sequence[Stored], writer: Writer) -> Meta:
    """The same, divided by the number of members."""
    if parts[0].meta.kind == "array":
        return arrays.add(parts, writer.write, mean=True)
    return _write(_add(_numbers("mean", parts)) / len(parts), writer)


def _argmax(parts: Sequence[Stored], writer: Writer) -> Meta:
    """Of numbers, the member with the highest; of arrays, where the highest is along the last axis of all together."""
    if parts[0].meta.kind == "array" and parts[0].meta.shape:
        return arrays.argmax(parts, writer.write)
    numbers = [float(decode(each.meta, each.path)) if each.meta.kind == "array" else 0.0 for each in parts]
    numbers = numbers if parts[0].meta.kind == "array" else _numbers("argmax", parts)
    # The first of those that are equal.
    return _write(parts[numbers.index(max(numbers))].index, writer)


def _one(parts: Sequence[Stored], writer: Writer) -> Meta:
    """The result of the only member that has one."""
    part = next(part for part in parts if part.meta.kind != "nothing")
    writer.link(part.path)
    return Meta("bytes") if part.meta.kind == "file" else part.meta


def _numbers(name: str, parts: Sequence[Stored]) -> list[Any]:
    values = [decode(part.meta, part.path) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TargetError(f"{name} takes numbers or arrays; member {part.index} contributed {describe(part.meta)}")
    return values


def _add(numbers: list[Any]) -> Any:
    # Rounded once, so that it does not depend on how the work was divided.
    return sum(numbers) if all(isinstance(each, int) for each in numbers) else math.fsum(numbers)


def _write(value: Any, writer: Writer) -> Meta:
    writer.write(json.dumps(value, separators=(",", ":")).encode())
    return Meta("json")


MERGES: Final = {"concatenate": _concatenate, "sum": _sum, "mean": _mean, "argmax": _argmax, "one": _one}
NEEDS: Final = {
    "concatenate": "arrays that are alike but for the first axis",
    "sum": "arrays of one shape",
    "mean": "arrays of one shape",
    "argmax": "arrays that are alike but for the last axis",
}
