"""Comparing what is on a device with what was to be written, piece by piece."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from cumulet_builder.flash.target import SPARSE_HEADER, ImageFile

PIECE = 4 << 20
CHUNK = struct.Struct("<HHII")
RAW, FILL = 0xCAC1, 0xCAC2


def is_same(file: ImageFile, back: Path) -> bool:
    """Whether `back`, read from the device, has everything that the file says; what it leaves open may be anything."""
    with back.open("rb") as stream:
        for offset, content in read_pieces(file):
            stream.seek(offset)
            if stream.read(len(content)) != content:
                return False
    return True


def read_pieces(file: ImageFile) -> Iterator[tuple[int, bytes]]:
    """(offset on the device, content) of everything that a file writes."""
    with file.path.open("rb") as stream:
        if not file.sparse:
            offset = 0
            while content := stream.read(PIECE):
                yield offset, content
                offset += len(content)
            return
        *_, header, chunk_header, block, _, chunks, _ = SPARSE_HEADER.unpack(stream.read(SPARSE_HEADER.size))
        stream.seek(header)
        offset = 0
        for _ in range(chunks):
            kind, _, count, total = CHUNK.unpack(stream.read(chunk_header)[: CHUNK.size])
            end = offset + count * block
            if kind == RAW:
                while offset < end:
                    content = stream.read(min(PIECE, end - offset))
                    yield offset, content
                    offset += len(content)
            elif kind == FILL:
                word = stream.read(4)
                for start in range(offset, end, PIECE):
                    yield start, word * (min(PIECE, end - start) // 4)
            else:
                stream.seek(total - chunk_header, os.SEEK_CUR)
            offset = end
