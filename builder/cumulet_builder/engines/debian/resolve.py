"""From a recipe to its lock: what to ask for (pure), and asking apt and pip for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.assets import find_requirements
from cumulet_builder.engines.debian.apt import AptRoot, open_apt
from cumulet_builder.engines.debian.lock import Lock, LockedPackage, Request
from cumulet_builder.engines.debian.mirror import Mirror
from cumulet_builder.engines.debian.pins import Pin, Target, load_pins, select_pins, take_pin
from cumulet_builder.engines.debian.wheels import Hashes, resolve_wheels
from cumulet_builder.formats import secureboot, verity
from cumulet_builder.formats.growth import PACKAGES as GROWTH
from cumulet_builder.hardware import juicer
from cumulet_builder.recipe.board import Board
from cumulet_builder.recipe.model import Recipe

ESSENTIAL = "?essential"
# Tools of the image's release that make its file systems and disk.
TOOLS = ("cpio", "dosfstools", "e2fsprogs", "erofs-utils", "fdisk", "kmod", "libarchive13t64", "mtools", "zstd")
# Tools of the image's release that make Android's formats.
ANDROID = ("android-sdk-libsparse-utils", "mkbootimg")
EMULATOR = "qemu-user"
LOCK_NAME = "requirements.lock"
# What the SDK on the device imports; what these need follows from the lock.
SDK_WHEELS = ("asyncssh", "click", "cryptography", "h11", "httpx", "jinja2", "pydantic", "pyyaml", "rich")
# Never run while configuring, or too big to fetch twice: no native twin needed.
NO_TWIN = ("kernel", "debug")
NO_TWIN_NAMES = ("containernetworking-plugins", "runc", "containerd", "firmware-")


def make_request(recipe: Recipe, host: str, kubernetes_packages: Sequence[str]) -> Request:
    """What must be resolved for a recipe on a computer of architecture `host`."""
    board = recipe.board
    wheels = {*recipe.wheels, *(pin.word for pin in find_pins(recipe))}
    python = {"python3"} if wheels else set()
    base = {ESSENTIAL, *GROWTH, *recipe.base_packages, *board.packages, *kubernetes_packages, *python}
    base |= set(verity.PACKAGES) if recipe.disk.verity else set()
    base -= set(recipe.replaced_packages)
    boot = {"busybox-static", "systemd-boot-efi", *board.firmware_packages, *_board_packages(board)}
    # A foreign image's Python is among the tools as its native twin.
    tools = {ESSENTIAL, *TOOLS, *([EMULATOR] if host != board.architecture else python)}
    tools |= set(verity.TOOL_PACKAGES) if recipe.disk.verity else set()
    return Request(
        suite=recipe.suite,
        components=recipe.components,
        architecture=board.architecture,
        host_architecture=host,
        base=tuple(sorted(base)),
        extra=tuple(sorted(set(recipe.packages) - base)),
        boot=tuple(sorted(boot)),
        tools=tuple(sorted(tools)),
        formats=_format_tools(recipe),
        wheels=tuple(sorted(wheels)),
    )


def _format_tools(recipe: Recipe) -> tuple[str, ...]:
    if recipe.secure_boot is not None:
        return secureboot.TOOL_PACKAGES
    return ANDROID if recipe.board.boot.method == "android" else ()


def find_pins(recipe: Recipe) -> list[Pin]:
    """The Python packages that go in at their pinned version. Raises UsageError for one that is not pinned."""
    if not recipe.sdk and not recipe.pinned_wheels:
        return []
    pins = load_own_pins(Target(recipe.board.architecture, recipe.suite))
    needed = select_pins(pins, SDK_WHEELS, LOCK_NAME) if recipe.sdk else []
    asked = [take_pin(pins, name, LOCK_NAME) for name in recipe.pinned_wheels]
    return list({pin.name: pin for pin in (*needed, *asked)}.values())


def load_own_pins(target: Target) -> dict[str, Pin]:
    """Every Python package of ours that is pinned for a target."""
    return load_pins(find_requirements(), target)


def _board_packages(board: Board) -> set[str]:
    """What is opened for a board: kernel, boot loader, what takes its firmware from it. Files of the user need none."""
    kernel, loader = board.kernel, board.boot.loader
    packages = set(juicer.PACKAGES) if board.firmware_from else set()
    if kernel.file is None:
        packages.add(kernel.package)
    if loader is not None and loader.file is None and loader.package is not None:
        packages.add(loader.package)
    return packages


@dataclass(frozen=True)
class Resolver:
    """Answers requests from a mirror's package lists, in the private root `folder`."""

    folder: Path
    mirror: Mirror
    hashes: Hashes = field(default_factory=dict)

    def lock(self, image: str, request: Request, before: Lock | None, fresh: bool) -> Lock:
        """Resolve a whole request. Versions of the lock `before` are kept where they can be.

        With `fresh` the package lists are fetched anew, whatever their age. Raises
        UsageError for names nobody has, ToolError for a broken mirror.
        """
        apt = open_apt(self.folder, self.mirror, request.suite, request.components)
        apt.pin({package.name: package.version for package in before.packages} if before and not fresh else {})
        architectures = sorted({request.architecture, request.host_architecture})
        if fresh or not apt.have_lists(architectures):
            apt.update(architectures)
        packages = [*_target(apt, request), *_boot(apt, request)]
        packages += _tools(apt, request, packages)
        if request.formats:
            host = request.host_architecture
            packages += apt.lock(apt.resolve(request.formats, host), host, "formats")
        if before and not fresh and _same_wheels(before.request, request):
            wheels = list(before.wheels)
        else:
            wheels = resolve_wheels(
                request.wheels, Target(request.architecture, request.suite), self.folder, self.hashes
            )
        return Lock(
            image=image,
            epoch=before.epoch if before and not fresh and _same_base(before, packages) else apt.epoch(),
            request=request,
            packages=tuple(sorted(packages, key=lambda each: (each.group, each.name))),
            wheels=tuple(wheels),
        )


def _same_base(before: Lock, packages: Sequence[LockedPackage]) -> bool:
    """Whether only the recipe's own packages differ. Then the date stays, and with it every stage below them."""
    return set(before.of("base", "boot")) == {each for each in packages if each.group in ("base", "boot")}


def _same_wheels(one: Request, other: Request) -> bool:
    return (one.wheels, one.architecture, one.suite) == (other.wheels, other.architecture, other.suite)


def _target(apt: AptRoot, request: Request) -> list[LockedPackage]:
    base = apt.resolve(request.base, request.architecture)
    locked = apt.lock(base, request.architecture, "base")
    if request.extra:
        both = apt.resolve([*request.base, *request.extra], request.architecture)
        more = [each for each in both if each not in set(base)]
        gone = {name for name, _ in base} - {name for name, _ in both}
        if gone:
            raise UsageError(
                f"packages: {', '.join(request.extra)} cannot be installed beside {', '.join(sorted(gone))}",
                hint="remove the package from `packages:` in the recipe",
            )
        locked += apt.lock(more, request.architecture, "extra")
    return locked


def _boot(apt: AptRoot, request: Request) -> list[LockedPackage]:
    """Packages that are opened but not installed: kernel image, loader, initramfs shell."""
    wanted = []
    for record in apt.show(request.boot, request.architecture):
        name = str(record["Package"])
        real = [
            part.split()[0]
            for part in str(record.get("Depends", "")).split(",")
            if name.startswith("linux-image-") and part.strip().startswith("linux-image-")
        ]
        wanted += real or [name]
    records = apt.show(wanted, request.architecture)
    pairs = [(str(record["Package"]), str(record["Version"])) for record in records]
    return apt.lock(pairs, request.architecture, "boot")


def _tools(apt: AptRoot, request: Request, target: Sequence[LockedPackage]) -> list[LockedPackage]:
    host = request.host_architecture
    if host == request.architecture:
        return apt.lock(apt.resolve(request.tools, host), host, "tools")
    known = apt.names(host)
    twins = [package for package in target if want_twin(package) and package.name in known]
    names = sorted({*request.tools, *(package.name for package in twins if package.group == "base")})
    tools = apt.resolve(names, host)
    more = [package.name for package in twins if package.group == "extra"]
    rest = [each for each in apt.resolve([*names, *more], host) if each not in set(tools)] if more else []
    return [*apt.lock(tools, host, "tools"), *apt.lock(rest, host, "twins")]


def want_twin(package: LockedPackage) -> bool:
    """Whether configuring may run a program of this package, so that a native one is needed."""
    return (
        package.group in ("base", "extra")
        and package.architecture != "all"
        and package.section not in NO_TWIN
        and not package.name.startswith(NO_TWIN_NAMES)
    )


def host_architecture(machine: str) -> str:
    """Debian's name of a machine as `uname -m` gives it. Raises ToolError for one we cannot build on."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    if machine not in names:
        raise ToolError(f"this computer is {machine}; images are built on x86_64 or aarch64")
    return names[machine]
