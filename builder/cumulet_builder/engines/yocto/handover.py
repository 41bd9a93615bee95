"""What the layers' recipes take as their sources: the files that the Debian engine lays over Debian's packages.

Both engines' nodes have the same units, scripts and settings because both take them from here. Where
openembedded-core calls something by another name, or owns a file itself, that is said in the tables below.
"""

from __future__ import annotations

from collections.abc import Mapping

from cumulet.kubernetes import k3s
from cumulet_builder.engines.debian.wheels import SITE
from cumulet_builder.formats.esp import make_command_line
from cumulet_builder.initramfs import FOLDERS, InitramfsChoice, make_script
from cumulet_builder.kubernetes.surroundings import make_cluster, make_setup_tree
from cumulet_builder.radio import make_chrony_text
from cumulet_builder.recipe.board import Storage
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.render import render
from cumulet_builder.rootfs import digest_of, make_files_tree, make_settings_tree
from cumulet_builder.sdk_layer import load_sdk, make_command_tree
from cumulet_builder.tree import Tree, merge

# Debian's names -> those of openembedded-core.
UNITS = {
    "ssh.service": "sshd.service",
    "ssh.socket": "sshd.socket",
    "sshd-keygen.service": "sshdgenkeys.service",
}
# Owned by packages of openembedded-core: laid over them once the image has been put together.
OVERLAID = ("/etc/default/gpsd", "/etc/fstab", "/etc/hosts", "/etc/machine-id", "/etc/resolv.conf")
# Said by openembedded-core itself, in its own words.
LEFT_OUT = ("/usr/lib/os-release", "/etc/systemd/system/default.target")
# containerd's own package has it.
IN_PACKAGES = ("/usr/bin/ctr",)
# Written by the recipe that knows the kernel.
KERNEL = "@KERNEL@"


def make_handover(recipe: Recipe, words: tuple[str, ...]) -> dict[str, Tree]:
    """Archive name -> tree, for one recipe; `words` is the kernel's command line without its root.

    Of this computer it reads the recipe's own files and the SDK's.
    """
    system = rename_units(make_settings_tree(recipe, ""))
    packaged = Tree({path: node for path, node in system.nodes.items() if path not in (*OVERLAID, *LEFT_OUT)})
    overlaid = Tree({path: node for path, node in system.nodes.items() if path in OVERLAID})
    if recipe.gnss is not None:
        # Its chrony reads one file, where Debian's reads a folder beside its own.
        overlaid.file("/etc/chrony.conf", make_chrony_text(recipe, whole=True))
    return {
        "system.tar": packaged,
        "overlay.tar": merge([overlaid, make_files_tree(recipe)]),
        "init.tar": make_init_tree(recipe.board.storage),
        "boot.tar": make_boot_tree(recipe, words),
        "sdk.tar": make_sdk_tree(),
        "kubernetes.tar": make_kubernetes_tree(recipe),
    }


def rename_units(tree: Tree) -> Tree:
    """The tree with units, and what hangs on them, under openembedded-core's names."""
    names = UNITS | {f"{old}.d": f"{new}.d" for old, new in UNITS.items()}
    renamed = {"/".join(names.get(word, word) for word in path.split("/")): path for path in tree.nodes}
    return Tree({new: tree.nodes[old] for new, old in renamed.items()})


def make_init_tree(storage: Storage) -> Tree:
    """The initramfs' script and mount points. What it mounts is built into the kernel: no module is loaded."""
    choice = InitramfsChoice(asker="yocto", inside=storage.inside or "", sector=storage.sector_size)
    tree = Tree()
    for folder in FOLDERS:
        if folder not in ("/bin", "/modules"):
            tree.folder(folder)
    tree.file("/init", make_script(choice, ()), 0o755)
    return tree


def make_boot_tree(recipe: Recipe, words: tuple[str, ...]) -> Tree:
    """The boot loader's settings, as the Debian engine writes them; the kernel's version is filled in later."""
    trees = recipe.board.kernel.device_trees
    tree = Tree()
    tree.file("/loader.conf", render("boot/loader.conf.j2"))
    entry = render(
        "boot/entry.conf.j2",
        program=None,
        image=recipe.image,
        version=KERNEL,
        slot="root-a",
        device_tree=f"/{trees[0]}.dtb" if len(trees) == 1 else None,
        options=make_command_line(words, "root-a"),
    )
    tree.file("/root-a.conf", entry)
    return tree


def make_sdk_tree() -> Tree:
    """The SDK of this very Cumulet: its command, and `site`, the folder of Python packages."""
    packages = {f"/site{path.removeprefix(SITE)}": node for path, node in load_sdk().nodes.items()}
    return Tree({"/cumulet": make_command_tree().nodes["/usr/bin/cumulet"], **packages})


def make_kubernetes_tree(recipe: Recipe) -> Tree:
    """Units, programs and settings of the distribution; nothing without Kubernetes."""
    if recipe.kubernetes is None:
        return Tree()
    tree = make_setup_tree(k3s.make_image_setup(make_cluster(recipe.kubernetes)))
    tree.folder("/var/lib/rancher")
    tree.folder("/var/lib/kubelet")
    return Tree({path: node for path, node in tree.nodes.items() if path not in IN_PACKAGES})


def make_digests(handover: Mapping[str, Tree]) -> dict[str, str]:
    """Archive name -> a digest of its tree."""
    return {name: digest_of(tree) for name, tree in handover.items()}
