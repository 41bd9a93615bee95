"""The lock file, and which lock a build goes by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian import settle
from cumulet_builder.engines.debian.lock import (
    Lock,
    LockedPackage,
    LockedWheel,
    Request,
    load_lock,
    make_lock_text,
    write_lock,
)
from cumulet_builder.engines.debian.mirror import Mirror
from cumulet_builder.engines.debian.settle import LockChoice, apt_folder, lock_beside, settle_lock

NOTHING = LockChoice(None, False, None)


def make_request(**values: object) -> Request:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text = {"suite": "trixie", "architecture": "arm64", "host_architecture": "amd64", "components": ("main",)}
    return Request.model_validate({**nothing, **text, **values})


def make_lock(request: Request | None = None, epoch: int = 1) -> Lock:
    package = LockedPackage(
        name="bash",
        version="5.2",
        architecture="arm64",
        sha256="a" * 64,
        size=7,
        source="bash 5.2",
        section="shells",
        path="pool/main/b/bash/bash_5.2_arm64.deb",
        group="base",
    )
    tool = package.model_copy(update={"name": "kmod", "group": "tools", "architecture": "amd64"})
    wheel = LockedWheel(name="click", version="8", file="click-8.whl", sha256="b" * 64, size=0)
    return Lock(image="edge", epoch=epoch, request=request or make_request(), packages=(package, tool), wheels=(wheel,))


# The file.


def test_a_lock_survives_its_file(tmp_path: Path) -> None:
    write_lock(make_lock(), tmp_path / "a.json")
    assert load_lock(tmp_path / "a.json") == make_lock()
    write_lock(load_lock(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_lock_names_no_place_where_packages_come_from() -> None:
    assert "://" not in make_lock_text(make_lock())
    assert make_lock().packages[0].file_name == "bash_5.2_arm64.deb"


def test_the_digest_is_of_everything_in_the_lock() -> None:
    assert make_lock().digest == make_lock().digest != make_lock(epoch=2).digest
    assert make_request().digest != make_request(extra=("vim",)).digest


def test_groups_are_taken_in_the_order_of_the_lock() -> None:
    assert [each.name for each in make_lock().of("base", "tools")] == ["bash", "kmod"]
    assert [each.name for each in make_lock().of("tools")] == ["kmod"]
    assert make_lock().of("twins") == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a lock of this version: Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"[]", "not a lock of this version: Input should be an object"),
        (b"\xff\xfe", "not a lock: it is not text"),
        (make_lock_text(make_lock()).replace('"version": 1', '"version": 2').encode(), "version: Input should be 1"),
        (make_lock_text(make_lock()).replace('"size": 7', '"sise": 7').encode(), "packages.0.size: Field required"),
    ],
)
def test_a_file_that_is_no_lock_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "edge.lock.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_lock(path)
    assert caught.value.message.startswith(f"{path}: not a lock")
    assert message in caught.value.message
    assert caught.value.hint == "make it again: cumulet lock RECIPE"


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_lock(tmp_path / "none.json")
    assert caught.value.message == f"{tmp_path}/none.json: no such lock file"
    assert caught.value.hint == "make one: cumulet lock RECIPE"


# Which lock.


class Resolver:
    """Resolves nothing: remembers what it was asked, and answers with locks of rising dates."""

    calls: list[tuple[Lock | None, bool]]

    def __init__(self, folder: Path, mirror: Mirror, hashes: object) -> None:
        pass

    def lock(self, image: str, request: Request, before: Lock | None, fresh: bool) -> Lock:
        Resolver.calls.append((before, fresh))
        return make_lock(request, epoch=len(Resolver.calls))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    Resolver.calls = []
    monkeypatch.setattr(settle, "Resolver", Resolver)
    monkeypatch.setattr(settle, "find_mirror", lambda option: Mirror("http://127.0.0.1/debian"))
    return open_cache(tmp_path / "cache")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "edge.yaml"


def settled(
    recipe: Path, cache: Cache, request: Request | None = None, choice: LockChoice = NOTHING
) -> tuple[int, str]:
    lock, origin = settle_lock(recipe, "edge", request or make_request(), choice, cache)
    return lock.epoch, origin


def test_the_first_build_makes_a_lock_and_the_next_ones_go_by_it(recipe: Path, cache: Cache) -> None:
    assert settled(recipe, cache) == (1, "new")
    assert settled(recipe, cache) == (1, "the last build")
    assert len(Resolver.calls) == 1
    assert not lock_beside(recipe).exists()


def test_another_request_makes_a_lock_near_to_the_last_and_the_old_one_is_kept(recipe: Path, cache: Cache) -> None:
    settled(recipe, cache)
    assert settled(recipe, cache, make_request(extra=("vim",))) == (2, "new")
    assert Resolver.calls == [(None, False), (make_lock(epoch=1), False)]
    assert settled(recipe, cache) == (1, "the last build")


def test_a_lock_beside_the_recipe_decides(recipe: Path, cache: Cache) -> None:
    settled(recipe, cache)
    write_lock(make_lock(epoch=50), lock_beside(recipe))
    assert lock_beside(recipe).name == "edge.lock.json"
    assert settled(recipe, cache) == (50, str(lock_beside(recipe)))


def test_a_lock_that_is_named_decides_over_the_one_beside(recipe: Path, cache: Cache, tmp_path: Path) -> None:
    write_lock(make_lock(epoch=50), lock_beside(recipe))
    write_lock(make_lock(epoch=60), tmp_path / "other.json")
    choice = LockChoice(tmp_path / "other.json", False, None)
    assert settled(recipe, cache, choice=choice) == (60, str(tmp_path / "other.json"))


def test_an_update_asks_anew_whatever_there_is(recipe: Path, cache: Cache) -> None:
    settled(recipe, cache)
    write_lock(make_lock(epoch=50), lock_beside(recipe))
    assert settled(recipe, cache, choice=LockChoice(None, True, None)) == (2, "new")
    assert Resolver.calls[1][1] is True


def test_a_kept_lock_of_another_version_of_cumulet_is_no_lock(recipe: Path, cache: Cache) -> None:
    settled(recipe, cache)
    for path in (cache.root / "locks").iterdir():
        path.write_text('{"version": 0}')
    assert settled(recipe, cache) == (2, "new")
    assert Resolver.calls[1] == (None, False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"extra": ("htop", "vim")}, "extra +htop -nano"),
        ({"suite": "forky"}, "suite trixie -> forky"),
        ({"host_architecture": "arm64"}, "host_architecture amd64 -> arm64"),
        ({"suite": "forky", "wheels": ("click",)}, "suite trixie -> forky; extra -nano -vim; wheels +click"),
    ],
)
def test_a_lock_of_another_recipe_says_what_changed(
    recipe: Path, cache: Cache, changed: dict[str, object], words: str
) -> None:
    write_lock(make_lock(make_request(extra=("nano", "vim"))), lock_beside(recipe))
    with pytest.raises(UsageError) as caught:
        settled(recipe, cache, make_request(**changed))
    found = caught.value.message.removeprefix(f"{lock_beside(recipe)}: the lock is not of this recipe: ")
    assert words in found
    assert caught.value.hint == f"make it again: cumulet lock {recipe}"
    assert Resolver.calls == []


def test_a_broken_mirror_leaves_the_last_lock(recipe: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(recipe, cache)

    def broken(*_: object) -> Lock:
        raise ToolError("mirror")

    monkeypatch.setattr(Resolver, "lock", broken)
    with pytest.raises(ToolError):
        settled(recipe, cache, choice=LockChoice(None, True, None))
    assert settled(recipe, cache) == (1, "the last build")


def test_every_mirror_and_suite_has_its_own_folder_of_lists(cache: Cache) -> None:
    one = apt_folder(cache, Mirror("http://127.0.0.1/a"), make_request())
    assert one == apt_folder(cache, Mirror("http://127.0.0.1/a"), make_request(extra=("vim",)))
    assert one != apt_folder(cache, Mirror("http://127.0.0.1/b"), make_request())
    assert one != apt_folder(cache, Mirror("http://127.0.0.1/a"), make_request(suite="forky"))
    assert one.parent == cache.root / "apt"
    assert os.sep not in one.name
