"""Finding the mirror: an option, the user's settings, or what this computer's apt says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.engines.debian import mirror
from cumulet_builder.engines.debian.mirror import HINT, Mirror, find_mirror

Fake = Callable[[str, str], Path]
Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def keyring(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at this computer's keys or at the user's settings."""
    monkeypatch.setattr(mirror, "find_keyring", lambda: "/keys")


def listing(fake: Fake, *lines: str) -> None:
    text = "\n".join(lines)
    fake("apt-get", f'[ "$1 $2" = "indextargets --format" ] || exit 9\ncat <<END\n{text}\nEND')


def settings(write: Write, text: str) -> Path:
    return write("../config/cumulet/config.yaml", text).resolve()


# This computer's apt.


def test_the_archive_and_its_security_archive_are_what_apt_uses(fake: Fake) -> None:
    listing(
        fake,
        "http://127.0.0.1/vendor/|stable|Docker|Docker CE|/k",
        "http://127.0.0.1/debian/|trixie|Debian|Debian|/other-keys",
        "http://127.0.0.1/second/|trixie|Debian|Debian|",
        "http://127.0.0.1/sec/|trixie-security|Debian|Debian-Security|",
        "http://127.0.0.1/back/|trixie-backports|Debian Backports|Debian Backports|",
    )
    assert find_mirror(None) == Mirror("http://127.0.0.1/debian", "http://127.0.0.1/sec", "/keys")


def test_before_the_first_update_the_address_tells(fake: Fake) -> None:
    listing(fake, "http://127.0.0.1/debian-security||||", "http://127.0.0.1/debian||||", "http://127.0.0.1/x||||")
    assert find_mirror(None) == Mirror("http://127.0.0.1/debian", "http://127.0.0.1/debian-security", "/keys")


@pytest.mark.parametrize(
    "line", ["", "http://127.0.0.1/ubuntu|noble|Ubuntu|Ubuntu|", "http://127.0.0.1/sec|x|Debian|Debian-Security|"]
)
def test_an_apt_without_debian_is_an_error_with_both_ways_out(fake: Fake, line: str) -> None:
    listing(fake, line)
    with pytest.raises(ToolError, match=r"^this computer's apt names no Debian mirror$") as caught:
        find_mirror(None)
    assert caught.value.hint == HINT
    assert "--mirror URL" in HINT
    assert "config.yaml" in HINT


def test_a_computer_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror.proc, "find", lambda name: None)
    with pytest.raises(ToolError, match=r"^this computer has no apt$"):
        find_mirror(None)


# The option and the settings.


@pytest.fixture
def no_apt(fake: Fake, tmp_path: Path) -> Path:
    """An apt that must not be asked."""
    fake("apt-get", f"touch {tmp_path}/asked")
    return tmp_path / "asked"


def test_the_option_wins_over_everything(no_apt: Path, write: Write) -> None:
    settings(write, "mirror: http://127.0.0.1/settings\nsecurity_mirror: http://127.0.0.1/security\n")
    assert find_mirror("http://127.0.0.1/debian/") == Mirror("http://127.0.0.1/debian", "", "/keys")
    assert not no_apt.exists()


def test_the_settings_win_over_apt(no_apt: Path, write: Write) -> None:
    settings(write, "mirror: http://127.0.0.1/a/\nsecurity_mirror: http://127.0.0.1/b/\n")
    assert find_mirror(None) == Mirror("http://127.0.0.1/a", "http://127.0.0.1/b", "/keys")
    settings(write, "mirror: http://127.0.0.1/a\n")
    assert find_mirror(None).security == ""
    assert not no_apt.exists()


@pytest.mark.parametrize("text", ["", "# nothing\n", "mirror:\n", "other: x\n"])
def test_settings_without_a_mirror_leave_it_to_apt(fake: Fake, write: Write, text: str) -> None:
    listing(fake, "http://127.0.0.1/debian||||")
    settings(write, text)
    assert find_mirror(None).main == "http://127.0.0.1/debian"


def test_a_folder_may_be_the_mirror(no_apt: Path, here: Path) -> None:
    (here / "my mirror").mkdir()
    assert find_mirror("my mirror").main == f"file://{here}/my%20mirror"
    assert find_mirror(f"{here}/my mirror/").main == f"file://{here}/my%20mirror"


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/debian", "no-such-folder", "debian", "/no/such/folder"])
def test_an_address_that_is_none_is_named(no_apt: Path, address: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_mirror(address)
    assert caught.value.message == f"--mirror {address}: not an http, https or file address"
    assert caught.value.hint == HINT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mirror: ftp://x\n", ": mirror ftp://x: not an http, https or file address"),
        ("mirror: http://127.0.0.1\nsecurity_mirror: x\n", ": security_mirror x: not an http, https or file address"),
        ("- a\n", ": must be a mapping"),
        ("mirror: [\n", ": not YAML: while parsing a flow node expected the node content"),
    ],
)
def test_wrong_settings_are_named_with_their_file(no_apt: Path, write: Write, text: str, words: str) -> None:
    path = settings(write, text)
    with pytest.raises(UsageError) as caught:
        find_mirror(None)
    assert caught.value.message.startswith(f"{path}{words}")
    assert "\n" not in caught.value.message


# What goes into apt's list.


def test_sources_have_updates_and_security_and_the_key() -> None:
    found = Mirror("http://127.0.0.1/d", "http://127.0.0.1/s", "/k").sources("trixie", ("main", "contrib"))
    assert found.splitlines() == [
        "deb [signed-by=/k] http://127.0.0.1/d trixie main contrib",
        "deb [signed-by=/k] http://127.0.0.1/d trixie-updates main contrib",
        "deb [signed-by=/k] http://127.0.0.1/s trixie-security main contrib",
    ]
    assert Mirror("http://127.0.0.1/d").sources("sid", ("main",)).splitlines()[0] == "deb http://127.0.0.1/d sid main"


def test_debians_own_key_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    there: set[str] = set()
    monkeypatch.setattr(Path, "exists", lambda path: path.name in there)
    assert mirror.find_keyring() == ""
    there.add("debian-archive-keyring.gpg")
    assert mirror.find_keyring() == "/usr/share/keyrings/debian-archive-keyring.gpg"
    there.add("debian-archive-keyring.pgp")
    assert mirror.find_keyring() == "/usr/share/keyrings/debian-archive-keyring.pgp"
