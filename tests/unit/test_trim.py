"""What stays out of a root, when it is unpacked, packed and shipped."""

from __future__ import annotations

import pytest

from cumulet_builder.engines.debian.trim import want_kept, want_packed, want_shipped, want_unpacked
from cumulet_builder.recipe.model import Trim


@pytest.mark.parametrize(
    ("path", "documentation", "locales", "wanted"),
    [
        ("/usr/share/doc/bash/README", True, True, False),
        ("/usr/share/doc/bash/README", False, True, True),
        ("/usr/share/doc/bash/copyright", True, True, True),
        ("/usr/share/doc", True, True, True),
        ("/usr/share/man/man1/ls.1.gz", True, True, False),
        ("/usr/share/docs-of-mine", True, True, True),
        ("/usr/share/locale/de/LC_MESSAGES/x.mo", True, True, False),
        ("/usr/share/locale/de/LC_MESSAGES/x.mo", True, False, True),
        ("/usr/lib/locale/C.utf8/LC_CTYPE", True, True, True),
        ("/usr/lib/locale/de_DE.utf8/LC_CTYPE", True, True, False),
        ("/usr/bin/ls", True, True, True),
    ],
)
def test_what_is_unpacked(path: str, documentation: bool, locales: bool, wanted: bool) -> None:
    assert want_unpacked(path, documentation=documentation, locales=locales) is wanted


@pytest.mark.parametrize(
    "path",
    [
        "/etc/machine-id",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/shadow-",
        "/var/lib/dpkg/status-old",
        "/var/lib/dpkg/lock-frontend",
        "/var/cache/debconf/config.dat",
        "/var/log/dpkg.log",
        "/root/.cache",
        "/tmp/x",
        "/dev/null",
    ],
)
def test_what_configuring_left_behind_is_not_packed(path: str) -> None:
    assert not want_packed(path)


@pytest.mark.parametrize(
    "path",
    [
        "/tmp",
        "/dev",
        "/root",
        "/etc/shadow",
        "/etc/ssh/sshd_config",
        "/var/lib/dpkg/status",
        "/var/log",
        # The libraries of an image for the build computer's own architecture.
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/aarch64-linux-gnu/libc.so.6",
    ],
)
def test_what_a_system_needs_is_packed(path: str) -> None:
    assert want_packed(path)


@pytest.mark.parametrize(
    ("path", "with_package_manager"),
    [
        ("/usr/bin/dpkg", True),
        ("/usr/bin/apt-get", True),
        ("/usr/lib/apt", True),
        ("/usr/bin/perl", True),
        ("/var/lib/dpkg/info", True),
        ("/usr/lib/aarch64-linux-gnu/perl-base", True),
        ("/usr/lib/python3.13/test", False),
        ("/usr/include", False),
        ("/usr/lib/aarch64-linux-gnu/libc.a", False),
    ],
)
def test_what_only_the_build_needed_is_not_shipped(path: str, with_package_manager: bool) -> None:
    assert not want_shipped(Trim())(path)
    assert want_shipped(Trim(package_manager=False))(path) is with_package_manager


@pytest.mark.parametrize(
    "path",
    [
        "/var/lib/dpkg",
        "/var/lib/dpkg/status",
        "/usr/share/doc/bash/copyright",
        "/usr/lib/python3.13/json",
        "/usr/lib/systemd/system/ssh.service",
        "/usr/bin/bash",
        "/usr/lib/aarch64-linux-gnu/libc.so.6",
        "/etc/ssl/certs",
    ],
)
def test_what_a_device_needs_is_shipped(path: str) -> None:
    assert want_shipped(Trim())(path)


def test_a_recipe_drops_and_keeps_by_patterns() -> None:
    trim = Trim(drop=("/usr/bin/vi*", "/opt"), keep=("/usr/bin/view", "/usr/bin/perl"))
    want = want_shipped(trim)
    assert [want(f"/usr/bin/{name}") for name in ("vim", "view", "perl", "perl5")] == [False, True, True, False]
    assert not want("/opt")
    assert want_kept(trim, "/usr/bin/view")
    assert not want_kept(trim, "/usr/bin/bash")


def test_letters_of_a_pattern_are_taken_as_they_are() -> None:
    want = want_shipped(Trim(drop=("/a/[b]*", "/X")))
    assert [want(path) for path in ("/a/b1", "/a/c", "/A/b1", "/x", "/X")] == [False, True, True, True, False]
