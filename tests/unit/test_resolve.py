"""From a recipe to its lock: what is asked for, and how the answers become packages of groups."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from debian.deb822 import Deb822

import cumulet
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.engines.debian import resolve
from cumulet_builder.engines.debian.lock import Group, Lock, LockedPackage, LockedWheel, Request
from cumulet_builder.engines.debian.mirror import Mirror
from cumulet_builder.engines.debian.pins import Target
from cumulet_builder.engines.debian.resolve import Resolver, host_architecture, make_request, want_twin
from cumulet_builder.recipe.load import load_recipe

Write = Callable[[str, str], Path]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
EPOCH = 1_700_000_000


# What is asked for.


def request_of(write: Write, text: str = "", host: str = "amd64", more: Sequence[str] = ()) -> Request:
    return make_request(load_recipe(write("r.yaml", HEAD + text)), host, more)


def test_a_request_is_sorted_and_names_everything_once(write: Write) -> None:
    found = request_of(write, "base_packages: [zsh, bash]\npackages: [vim, bash, htop, iptables]\n", more=["iptables"])
    assert found.base == ("?essential", "bash", "iptables", "systemd-repart", "zsh")
    assert found.extra == ("htop", "vim")
    assert found.boot == ("busybox-static", "linux-image-arm64", "systemd-boot-efi")
    assert (found.suite, found.components, found.wheels) == ("trixie", ("main",), ())


def test_a_foreign_image_needs_the_emulator(write: Write) -> None:
    assert "qemu-user" in request_of(write, host="amd64").tools
    assert "qemu-user" not in request_of(write, host="arm64").tools


@pytest.mark.parametrize("text", ["sdk: true\n", "wheels: [numpy]\n"])
def test_python_goes_where_the_sdk_goes_and_among_the_tools_that_compile_it(write: Write, text: str) -> None:
    assert "python3" in request_of(write, text).base
    # A foreign image's is there as the native twin of its base package.
    assert "python3" not in request_of(write, text, host="amd64").tools
    assert "python3" in request_of(write, text, host="arm64").tools
    assert "python3" not in request_of(write, host="arm64").tools


def test_the_sdk_brings_the_wheels_that_it_imports(write: Write) -> None:
    words = request_of(write, "sdk: true\nwheels: [numpy]\n").wheels
    names = {word.partition("==")[0] for word in words}
    # Asked for by the recipe, by the SDK, and by what the SDK asks for.
    assert {"numpy", "asyncssh", "pydantic", "pydantic-core", "cffi", "h11"} <= names
    assert [word for word in words if "==" not in word] == ["numpy"]
    assert "pytest" not in names


def test_what_the_sdk_imports_is_what_an_image_gets() -> None:
    folder = Path(cumulet.__file__).parent
    known = {"asyncssh", "click", "cryptography", "h11", "httpx", "jinja2", "pydantic", "yaml", "rich", "cumulet"}
    # What parts bring themselves: with a feature, with a container image, or on a hub.
    own = {
        "central": {"aiohttp", "opentelemetry", "prometheus_client"},
        "gpu": {"grpc", "google"},
        "inference": {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "ncnn"},
        "modem": {"dbus_fast"},
        "spool": {"aiohttp"},
        "supercontainer": {"numpy", "dask", "distributed"},
    }
    found = {}
    for path in folder.rglob("*.py"):
        part = path.relative_to(folder).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.split(".")[0] for name in names} - known - own.get(part, set()):
                if name not in sys.stdlib_module_names:
                    found[str(path)] = name
    assert found == {}


def test_a_feature_takes_packages_at_their_pinned_version(write: Write) -> None:
    (word,) = request_of(write, "pinned_wheels: [ncnn]\n").wheels
    assert word.startswith("ncnn==")
    with pytest.raises(UsageError) as caught:
        request_of(write, "pinned_wheels: [nccn]\n")
    assert caught.value.message == "requirements.lock: has no nccn for this Python"


def test_boards_bring_packages_and_firmware(write: Write) -> None:
    write(
        "board.yaml",
        "version: 1\nboard: mine\ntitle: M\narchitecture: arm64\nkernel: {package: linux-image-x}\n"
        "packages: [modem]\nfirmware_packages: [firmware-x]\n",
    )
    recipe = load_recipe(write("r.yaml", "version: 1\nimage: edge\nboard: board.yaml\n"))
    found = make_request(recipe, "amd64", ())
    assert "modem" in found.base
    assert {"firmware-x", "linux-image-x"} <= set(found.boot)


def test_computers_that_cannot_build_are_told(write: Write) -> None:
    assert [host_architecture(name) for name in ("x86_64", "aarch64")] == ["amd64", "arm64"]
    with pytest.raises(ToolError, match=r"^this computer is riscv64; images are built on x86_64 or aarch64$"):
        host_architecture("riscv64")


# Answers, from an archive of a few packages.

DEPENDS = {
    "?essential": ("base-files", "bash"),
    "bash": ("libc6",),
    "htop": ("libc6", "libnl"),
    "kmod": ("libc6",),
    "other-bash": ("libc6",),
    "python3": ("libc6",),
}
BOOT = {"linux-image-arm64": "linux-image-6.12-arm64 (= 6.12), kmod", "busybox-static": "libc6"}


@dataclass
class FakeApt:
    """Resolves from DEPENDS. `gone`: asking for the first removes the second."""

    gone: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    updates: list[Sequence[str]] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)

    def pin(self, versions: dict[str, str]) -> None:
        self.pins = versions

    def have_lists(self, architectures: Sequence[str]) -> bool:
        return self.fresh

    def update(self, architectures: Sequence[str]) -> None:
        self.updates.append(architectures)

    def resolve(self, names: Sequence[str], architecture: str) -> list[tuple[str, str]]:
        found: dict[str, None] = {}
        todo = list(names)
        while todo:
            name = todo.pop(0)
            todo += DEPENDS.get(name, ())
            if not name.startswith("?"):
                found[name] = None
        for asker, name in self.gone.items():
            if asker in names:
                found.pop(name, None)
        return [(name, "1") for name in found]

    def names(self, architecture: str) -> set[str]:
        return {"base-files", "bash", "libc6", "htop", "libnl", "python3", "linux-image-6.12-arm64"}

    def show(self, wanted: Iterable[str], architecture: str) -> list[Deb822]:
        self.shown += wanted
        return [Deb822({"Package": name, "Version": "1", "Depends": BOOT.get(name, "")}) for name in wanted]

    def lock(self, wanted: Sequence[tuple[str, str]], architecture: str, group: Group) -> list[LockedPackage]:
        return [package(name, architecture, group, version) for name, version in wanted]

    def epoch(self) -> int:
        return EPOCH


def package(name: str, architecture: str, group: Group, version: str = "1", section: str = "utils") -> LockedPackage:
    real = "all" if name == "base-files" else architecture
    values = {"name": name, "version": version, "architecture": real, "sha256": name, "size": 1, "source": name}
    return LockedPackage.model_validate({**values, "section": section, "path": name, "group": group})


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    fake = FakeApt()
    monkeypatch.setattr(resolve, "open_apt", lambda *_: fake)
    return fake


def lock(request: Request, before: Lock | None = None, fresh: bool = False) -> Lock:
    return Resolver(Path("/none"), Mirror("http://127.0.0.1")).lock("edge", request, before, fresh)


def groups(made: Lock) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for each in made.packages:
        found.setdefault(each.group, []).append(f"{each.name}/{each.architecture}")
    return {group: " ".join(names) for group, names in found.items()}


def make(**values: object) -> Request:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = {"suite": "trixie", "architecture": "arm64", "host_architecture": "amd64"}
    parts = {"base": ("?essential",), "boot": ("busybox-static", "linux-image-arm64"), "tools": ("?essential", "kmod")}
    return Request.model_validate({**nothing, **text, **parts, **values})


def test_packages_of_a_foreign_image_have_native_twins(apt: FakeApt) -> None:
    assert groups(lock(make(base=("?essential", "python3"), extra=("htop",)))) == {
        "base": "base-files/all bash/arm64 libc6/arm64 python3/arm64",
        "extra": "htop/arm64 libnl/arm64",
        "boot": "busybox-static/arm64 linux-image-6.12-arm64/arm64",
        "tools": "base-files/all bash/amd64 kmod/amd64 libc6/amd64 python3/amd64",
        "twins": "htop/amd64 libnl/amd64",
    }


def test_packages_of_a_native_image_need_none(apt: FakeApt) -> None:
    assert groups(lock(make(host_architecture="arm64", extra=("htop",)))) == {
        "base": "base-files/all bash/arm64 libc6/arm64",
        "extra": "htop/arm64 libnl/arm64",
        "boot": "busybox-static/arm64 linux-image-6.12-arm64/arm64",
        "tools": "base-files/all bash/arm64 kmod/arm64 libc6/arm64",
    }


def test_a_kernel_is_the_package_that_the_named_one_stands_for(apt: FakeApt) -> None:
    made = lock(make(boot=("linux-image-arm64",)))
    assert [each.name for each in made.of("boot")] == ["linux-image-6.12-arm64"]
    assert [each.name for each in lock(make(boot=("linux-image-6.12-arm64",))).of("boot")] == ["linux-image-6.12-arm64"]


def test_packages_that_do_not_fit_together_are_named(apt: FakeApt) -> None:
    apt.gone = {"other-bash": "bash"}
    with pytest.raises(UsageError) as caught:
        lock(make(extra=("other-bash",)))
    assert caught.value.message == "packages: other-bash cannot be installed beside bash"
    assert caught.value.hint == "remove the package from `packages:` in the recipe"


def test_lists_are_fetched_when_they_are_old_or_newer_packages_are_asked_for(apt: FakeApt) -> None:
    lock(make())
    assert apt.updates == [["amd64", "arm64"]]
    apt.fresh = True
    lock(make())
    assert len(apt.updates) == 1
    lock(make(), fresh=True)
    assert len(apt.updates) == 2


def test_the_versions_of_the_last_lock_are_kept_unless_newer_ones_are_asked_for(apt: FakeApt) -> None:
    before = lock(make())
    assert apt.pins == {}
    lock(make(extra=("htop",)), before)
    assert apt.pins == {each.name: "1" for each in before.packages}
    lock(make(), before, fresh=True)
    assert apt.pins == {}


def test_wheels_of_the_last_lock_are_kept_for_the_same_request(apt: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def resolve_wheels(names: tuple[str, ...], target: Target, folder: Path, hashes: object) -> list[LockedWheel]:
        asked.append((target.architecture, *names))
        return [LockedWheel(name=name, version="1", file=target.architecture, sha256="", size=0) for name in names]

    monkeypatch.setattr(resolve, "resolve_wheels", resolve_wheels)
    before = lock(make(wheels=("rich",)))
    assert lock(make(wheels=("rich",), extra=("htop",)), before).wheels == before.wheels
    assert asked == [("arm64", "rich")]
    assert lock(make(wheels=("rich",), architecture="amd64"), before).wheels[0].file == "amd64"
    lock(make(wheels=("click", "rich")), before)
    lock(make(wheels=("rich",)), before, fresh=True)
    assert asked[1:] == [("amd64", "rich"), ("arm64", "click", "rich"), ("arm64", "rich")]


def test_the_same_archive_makes_the_same_lock(apt: FakeApt) -> None:
    assert lock(make(extra=("htop",))) == lock(make(extra=("htop",)))
    assert lock(make()).epoch == EPOCH


@pytest.mark.parametrize(
    ("name", "section", "group", "wanted"),
    [
        ("bash", "shells", "base", True),
        ("htop", "utils", "extra", True),
        ("bash", "shells", "boot", False),
        ("base-files", "admin", "base", False),
        ("linux-image", "kernel", "extra", False),
        ("libc6-dbg", "debug", "extra", False),
        ("containerd", "admin", "base", False),
        ("firmware-x", "non-free-firmware/kernel", "extra", False),
    ],
)
def test_a_twin_is_wanted_where_a_script_may_run_the_program(
    name: str, section: str, group: Group, wanted: bool
) -> None:
    assert want_twin(package(name, "arm64", group, section=section)) is wanted
