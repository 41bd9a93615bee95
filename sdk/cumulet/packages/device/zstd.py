"""Reading zstd through the system's own library: Python has a module of its own for it only from 3.14 on."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import IO

from cumulet.core.errors import TargetError

MAGIC = b"\x28\xb5\x2f\xfd"
LIBRARY = "libzstd.so.1"
PIECE = 1 << 17


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("place", ctypes.c_size_t))


class Reader:
    """What a zstd stream holds, in order. Raises TargetError for a damaged one or if the library is not there."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise TargetError(f"{LIBRARY}: not on this device", hint="publish the package as .tar.gz") from error
        self._library.ZSTD_createDStream.restype = ctypes.c_void_p
        self._library.ZSTD_decompressStream.restype = ctypes.c_size_t
        self._library.ZSTD_decompressStream.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(_Buffer),
            ctypes.POINTER(_Buffer),
        ]
        self._library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
        self._library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        self._context = self._library.ZSTD_createDStream()
        self._made = ctypes.create_string_buffer(PIECE)
        self._input = b""
        self._from = _Buffer(None, 0, 0)
        self._ready = b""
        self._open = False

    def close(self) -> None:
        """Free the library's memory."""
        if self._context is not None:
            self._library.ZSTD_freeDStream(self._context)
            self._context = None

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        parts, missing = [], size
        while missing:
            if not self._ready and not self._refill():
                break
            taken, self._ready = self._ready[:missing], self._ready[missing:]
            parts.append(taken)
            missing -= len(taken)
        return b"".join(parts)

    def _refill(self) -> bool:
        while True:
            if self._from.place == self._from.size:
                self._input = self._stream.read(PIECE)
                if not self._input:
                    if self._open:
                        raise TargetError("a zstd stream ends in its middle")
                    return False
                self._from = _Buffer(ctypes.cast(ctypes.c_char_p(self._input), ctypes.c_void_p), len(self._input), 0)
            to = _Buffer(ctypes.cast(self._made, ctypes.c_void_p), PIECE, 0)
            left = self._library.ZSTD_decompressStream(self._context, ctypes.byref(to), ctypes.byref(self._from))
            if self._library.ZSTD_isError(left):
                raise TargetError("a zstd stream is damaged")
            self._open = left != 0
            if to.place:
                self._ready = self._made.raw[: to.place]
                return True
