"""Android sparse images, as a boot loader unpacks them: chunks of data, of one repeated word, and of nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

MAGIC: Final = 0xED26FF3A
RAW, FILL, NOTHING, CHECKSUM = 0xCAC1, 0xCAC2, 0xCAC3, 0xCAC4
HEADER = struct.Struct("<IHHHHIIII")
CHUNK = struct.Struct("<HHII")


def is_sparse(data: bytes) -> bool:
    """Whether these are the first bytes of a sparse image."""
    return len(data) >= HEADER.size and struct.unpack_from("<I", data)[0] == MAGIC


def unpack(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset in the partition, content) of every chunk that is to be written. Raises ValueError for a broken image."""
    _, _, _, header_size, chunk_size, block, blocks, chunks, _ = HEADER.unpack_from(data)
    position, offset = header_size, 0
    for _ in range(chunks):
        if position + chunk_size > len(data):
            raise ValueError("the image ends inside its chunks")
        kind, _, count, total = CHUNK.unpack_from(data, position)
        body = data[position + chunk_size : position + total]
        if len(body) != total - chunk_size:
            raise ValueError("a chunk is shorter than it says")
        if kind == RAW:
            if len(body) != count * block:
                raise ValueError("a raw chunk has another size than its blocks")
            yield offset, body
        elif kind == FILL:
            yield offset, body * (count * block // 4)
        elif kind not in (NOTHING, CHECKSUM):
            raise ValueError(f"unknown chunk {kind:#06x}")
        position += total
        offset += count * block
    if offset != blocks * block:
        raise ValueError("the chunks are not as many blocks as the image says")
