"""Pins: a lock of Python packages, read for the Python of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.engines.debian.pins import Target, load_pins, read_pins, select_pins, take_pin

ARM, OLD = Target("arm64", "trixie"), Target("amd64", "bookworm")
TEXT = f"""# made by somebody
httpx==0.28 ; sys_platform == 'linux' \\
    --hash=sha256:{"a" * 64} \\
    --hash=sha256:{"b" * 64}
    # via
    #   mine (pyproject.toml)
    #   other-thing
h11==1.0 \\
    --hash=sha256:{"c" * 64}
    # via httpx
numpy==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:{"d" * 64}
    # via -r some.in
numpy==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{"e" * 64}
    # via -r some.in
colorama==1 ; sys_platform == 'win32' \\
    --hash=sha256:{"f" * 64}
    # via httpx
"""


def test_a_lock_is_read_for_one_python() -> None:
    pins = read_pins(TEXT, ARM, "x.lock")
    assert {name: pin.version for name, pin in pins.items()} == {"httpx": "0.28", "h11": "1.0", "numpy": "2.0"}
    assert pins["httpx"].hashes == {"a" * 64, "b" * 64}
    assert pins["httpx"].askers == {"mine", "other-thing"}
    assert pins["numpy"].word == "numpy==2.0"
    assert read_pins(TEXT, OLD, "x.lock")["numpy"].version == "1.0"


def test_what_a_package_needs_comes_with_it_and_nothing_else() -> None:
    pins = read_pins(TEXT, ARM, "x.lock")
    assert [pin.name for pin in select_pins(pins, ["HTTPX"], "x.lock")] == ["h11", "httpx"]
    assert take_pin(pins, "httpx", "x.lock").name == "httpx"
    with pytest.raises(UsageError) as caught:
        select_pins(pins, ["flask"], "x.lock")
    assert caught.value.message == "x.lock: has no flask for this Python"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("httpx>=1\n", "x.lock:1: not a pinned package: httpx>=1"),
        ("\n-e .\n", "x.lock:2: not a pinned package: -e ."),
        ("httpx==1\n    # via you\n", "x.lock:1: httpx has no hash"),
    ],
)
def test_anything_else_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_pins(text, ARM, "x.lock")
    assert caught.value.message == message


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.lock: No such file or directory$"):
        load_pins(tmp_path / "none.lock", ARM)
