"""The device's part as one text that a Python of any device takes: neither its SDK nor ours need be the other's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

MODULES = (
    "cumulet.core.errors",
    *(f"cumulet.packages.device.{name}" for name in ("chunks", "client", "sources", "pull", "serve", "zstd", "tree")),
    "cumulet.packages.device.main",
)
"""In the order in which they are needed."""
# Modules are known by name before anything asks for them, so that nothing of the device's own is looked for.
LOADER = """
import json, sys, types
sys.dont_write_bytecode = True
for name, text in json.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))):
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, last = name.rpartition(".")
    setattr(sys.modules.setdefault(parent, types.ModuleType(parent)), last, module)
    exec(compile(text, name, "exec"), module.__dict__)
module.main()
"""
# -I: neither the current folder nor a user's modules take the place of Python's own.
COMMAND = ("python3", "-I", "-c", LOADER)


def make_bundle() -> bytes:
    """What is written to the loader's input first; the request follows as one line."""
    texts = [(name, _find(name).read_text()) for name in MODULES]
    data = json.dumps(texts).encode()
    return b"%d\n%s" % (len(data), data)


def _find(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(name)
    return Path(found.origin)
