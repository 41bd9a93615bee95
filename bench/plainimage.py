"""The image that we measure ourselves against: an untrimmed Debian root on ext4, and Kubernetes the way
kubeadm's documentation installs it. The programs, the kernel and the machine are the same as in ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import baseline

from cumulet.core.files import publishing
from cumulet.kubernetes.layout import PAUSE, VERSIONS
from cumulet_builder import initramfs, kernel
from cumulet_builder.assets import find_assets
from cumulet_builder.build import Planned
from cumulet_builder.engines.debian.stages import find_package
from cumulet_builder.kubernetes import kubeadm
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.plan import make_plan
from cumulet_builder.render import render
from cumulet_builder.run_plan import Run, run_plan
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, merge, read_tar, write_tar

FILES = Path(__file__).parent / "plain"
UNITS = "/etc/systemd/system"
MODULES = ("virtio_blk", "ext4", "crc32c_generic")
KUBE = ("kubeadm", "kubectl", "kubelet", "kube-proxy")
NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=yes\n"
DISK = "4G"
WANTED = ("containerd.service", "kubelet.service", "plain-cluster.service")
# Ours, so that both images say the same thing at the same moment.
REPORTER = "cumulet-running.service"


@dataclass(frozen=True)
class Parts:
    """What the image is made from: a built recipe, and the results of its stages."""

    planned: Planned
    stages: dict[str, Path]

    @property
    def toolbox(self) -> Toolbox:
        """The tools of the image's release."""
        return Toolbox(self.stages["tools"] / "tree")

    @property
    def kernel(self) -> kernel.Package:
        """Everything in the kernel package."""
        return kernel.load_package(self.planned.cache.file(find_package(self.planned.lock, "linux-image-").sha256))


def make_plain_image(parts: Parts, log: Path) -> Path:
    """The published folder of the plain image; kept in the cache, since its root takes ten minutes."""
    cache = parts.planned.cache
    folder = cache.root / "bench" / f"plain-{parts.planned.lock.digest[:16]}"
    if folder.exists():
        return folder
    images = make_images(parts, log)
    with cache.in_use(), publishing(folder) as new, cache.scratch("plain") as scratch:
        debian = make_debian(parts, scratch)
        package = parts.kernel
        modules = make_modules(parts, package, scratch / "modules")
        tree = merge([debian, modules, make_programs(parts), make_settings(images)])
        with (scratch / "root.tar").open("wb") as stream:
            write_tar(tree, stream, parts.planned.lock.epoch)
        words = ["mke2fs", "-q", "-t", "ext4", "-d", scratch / "root.tar", new / "disk.img", DISK]
        parts.toolbox.run(words, folders=[new, scratch])
        (new / "vmlinuz").write_bytes(package.boot("vmlinuz"))
        write_initramfs(parts, modules, package.version, new / "initrd.img")
        write_documents(parts, new)
    return folder


def make_debian(parts: Parts, scratch: Path) -> Tree:
    """The root as mmdebstrap makes it, of the same packages."""
    lock = parts.planned.lock
    packages = lock.of("base", "extra")
    kept = baseline.kept_root(lock, parts.planned.cache)
    if not kept.exists():
        archives = baseline.bring_packages(lock, packages, parts.planned.cache, scratch / "archives")
        kept.parent.mkdir(exist_ok=True)
        with baseline.emulator():
            baseline.run_mmdebstrap(lock, packages, archives, scratch / "debian.tar")
        (scratch / "debian.tar").replace(kept)
    return read_tar(kept)


def make_images(parts: Parts, log: Path) -> Path:
    """The archive with every image of a control plane."""
    planned = parts.planned
    around = Surroundings(find_assets("recipes"), lambda _: parts.toolbox, ("tools",))
    wanted = [stage for stage in planned.stages if stage.name in ("tools", "programs")]
    stages = [*wanted, kubeadm.make_archive_stage(planned.recipe, around)]
    with log.open("w") as stream:
        run = Run(planned.cache, stream, planned.lock.epoch, lambda *_: None)
        return run_plan(make_plan(stages, planned.cache, {}), run)["images"] / "images.tar"


def make_modules(parts: Parts, package: kernel.Package, folder: Path) -> Tree:
    """Every module of the kernel, as its package has them."""
    modules = package.modules()
    lists = kernel.write_indexes(modules, package.version, parts.toolbox, folder)
    tree = Tree()
    for path, data in {**modules, **lists}.items():
        tree.file(f"/usr/lib/modules/{package.version}/{path}", data)
    return tree


def make_programs(parts: Parts) -> Tree:
    """The same programs as in ours."""
    programs = parts.stages["programs"]
    tree = Tree()
    tree.file("/usr/bin/kube", programs / "kube", 0o755)
    tree.file("/usr/bin/containerd", programs / "containerd", 0o755)
    tree.file("/usr/bin/containerd-shim-runc-v2", programs / "shim", 0o755)
    tree.link("/usr/bin/ctr", "containerd")
    for name in KUBE:
        tree.link(f"/usr/bin/{name}", "kube")
    return tree


def make_settings(images: Path) -> Tree:
    """Units and settings as the projects' own documentation has them."""
    tree = Tree()
    for name in WANTED:
        tree.file(f"{UNITS}/{name}", FILES / name)
    tree.file(f"{UNITS}/{REPORTER}", render(f"system/{REPORTER}.j2"))
    tree.file("/usr/lib/cumulet/report-running", render("system/report-running.sh.j2"), 0o755)
    for name in (*WANTED, REPORTER):
        tree.link(f"{UNITS}/multi-user.target.wants/{name}", f"{UNITS}/{name}")
    tree.link(
        f"{UNITS}/multi-user.target.wants/systemd-networkd.service", "/usr/lib/systemd/system/systemd-networkd.service"
    )
    tree.file("/etc/systemd/network/80-ether.network", NETWORK)
    tree.file("/usr/lib/plain/cluster", FILES / "cluster.sh", 0o755)
    init = (FILES / "init.yaml").read_text()
    for name in ("kubernetes", "coredns", "etcd"):
        init = init.replace(f"@{name.upper()}@", VERSIONS[name])
    tree.file("/etc/plain/init.yaml", init)
    tree.file("/etc/containerd/config.toml", (FILES / "containerd.toml").read_text().replace("@PAUSE@", PAUSE))
    tree.file("/etc/cni/net.d/10-bridge.conflist", FILES / "bridge.conflist")
    tree.file("/etc/modules-load.d/plain.conf", "overlay\nbr_netfilter\n")
    tree.file("/etc/sysctl.d/90-plain.conf", "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n")
    tree.file("/etc/hostname", "plain\n")
    tree.file("/etc/machine-id", "uninitialized\n")
    tree.file("/var/lib/images.tar", images)
    return tree


def write_initramfs(parts: Parts, modules: Tree, version: str, target: Path) -> None:
    """The least that mounts the root."""
    busybox = parts.planned.cache.file(find_package(parts.planned.lock, "busybox-static").sha256)
    tree = initramfs.make_busybox_tree(initramfs.load_busybox(busybox), (*initramfs.APPLETS, "cat"))
    names = []
    for path in initramfs.find_order(MODULES, modules, version, "plain"):
        names.append(path.rsplit("/", 1)[-1].removesuffix(kernel.PACKED))
        packed = modules.read(f"/usr/lib/modules/{version}/{path}")
        tree.file(f"/modules/{names[-1]}", kernel.unpack_module(path, packed))
    tree.file("/modules/order", "\n".join(names))
    tree.file("/init", FILES / "init.sh", 0o755)
    with target.open("wb") as stream:
        initramfs.write_cpio(tree, stream, parts.planned.lock.epoch)


def write_documents(parts: Parts, folder: Path) -> None:
    """What QEMU's driver reads of an image."""
    recipe = parts.planned.recipe
    words = [*recipe.board.kernel.command_line, "root=/dev/vda", "rw", "quiet"]
    (folder / "cmdline.txt").write_text(" ".join(words) + "\n")
    (folder / "board.json").write_text(json.dumps(recipe.board.model_dump(mode="json")))
    kubernetes = recipe.kubernetes.model_dump(mode="json") if recipe.kubernetes else None
    image = {"image": "plain", "architecture": recipe.board.architecture, "test": [], "kubernetes": kubernetes}
    (folder / "image.json").write_text(json.dumps(image))
