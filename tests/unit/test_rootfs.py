"""The root partition's tree: layers merged, trimmed, and no link left that leads nowhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet_builder.cache import open_cache
from cumulet_builder.engines.debian.lock import Lock, Request
from cumulet_builder.plan import Workshop
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Recipe, Trim
from cumulet_builder.rootfs import (
    LAYERS,
    digest_of,
    drop_dangling,
    make_files_tree,
    make_root_stage,
    make_root_tree,
    trim_tree,
)
from cumulet_builder.tree import Node, Tree, read_tar, write_tar

Write = Callable[[str, str], Path]
EPOCH = 1_700_000_000
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"


def make_lock() -> Lock:
    text = dict.fromkeys(("suite", "architecture", "host_architecture"), "x")
    nothing: dict[str, object] = {name: () for name in Request.model_fields if name not in text}
    return Lock(image="edge", epoch=EPOCH, request=Request.model_validate({**nothing, **text}), packages=())


def put(folder: Path, name: str, **files: str) -> Path:
    """A stage's folder with an archive of these files."""
    tree = Tree()
    for path, text in files.items():
        tree.file("/" + path.replace("_", "/"), text)
    folder.mkdir()
    with (folder / name).open("wb") as stream:
        write_tar(tree, stream, EPOCH)
    return folder


@pytest.fixture
def recipe(write: Write) -> Recipe:
    return load_recipe(write("r.yaml", f"{HEAD}files: [{{path: /etc/motd, content: hello}}]\n"))


# The whole tree.


def test_layers_lie_over_each_other_and_the_recipes_own_files_on_top(recipe: Recipe, tmp_path: Path) -> None:
    stages = {
        "sdk": put(tmp_path / "sdk", "sdk.tar", usr_d="sdk"),
        "packages": put(tmp_path / "packages", "root.tar", usr_a="deb", usr_b="deb", usr_d="deb", etc_motd="deb"),
        "kernel": put(tmp_path / "kernel", "kernel.tar", usr_b="kernel"),
    }
    tree = make_root_tree(recipe, stages, [make_files_tree(recipe)])
    found = {path: tree.read(path) for path, node in tree.nodes.items() if node.kind == "file"}
    assert found == {"/usr/a": b"deb", "/usr/b": b"kernel", "/usr/d": b"sdk", "/etc/motd": b"hello"}


def test_places_that_something_is_mounted_on_are_always_there(recipe: Recipe, tmp_path: Path) -> None:
    stages = {"packages": put(tmp_path / "packages", "root.tar", usr_a="")}
    tree = make_root_tree(recipe, stages, [])
    modes = {path: node.mode for path, node in tree.nodes.items() if node.kind == "folder"}
    assert {"/dev", "/proc", "/sys", "/run", "/data", "/boot"} <= set(modes)
    assert (modes["/tmp"], modes["/var/tmp"], modes["/var/log"]) == (0o1777, 0o1777, 0o755)


def test_the_stage_knows_everything_that_decides_it(recipe: Recipe, write: Write) -> None:
    stage = make_root_stage(recipe, make_lock())
    assert stage.needs == ("packages", "kernel", "sdk")
    others = {
        "files": "files: [{path: /etc/motd, content: bye}]\n",
        "trim": "files: [{path: /etc/motd, content: hello}]\ntrim: {drop: [/opt]}\n",
        "system": "files: [{path: /etc/motd, content: hello}]\nnode: {hostname: other}\n",
    }
    for name, text in others.items():
        other = make_root_stage(load_recipe(write("o.yaml", HEAD + text)), make_lock())
        assert {each for each in stage.inputs if stage.inputs[each] != other.inputs[each]} == {name}
    k3s = "features: [base, containers]\nkubernetes: {distribution: k3s}\n"
    with_k3s = make_root_stage(load_recipe(write("k.yaml", HEAD + k3s)), make_lock())
    assert with_k3s.needs == ("packages", "kernel", "kubernetes", "sdk")


def test_the_stage_writes_the_tree_dated_by_the_lock(recipe: Recipe, tmp_path: Path) -> None:
    needs = {
        "packages": put(tmp_path / "packages", "root.tar", usr_a=""),
        "kernel": put(tmp_path / "kernel", "kernel.tar"),
        "sdk": put(tmp_path / "sdk", "sdk.tar"),
    }
    (needs["packages"] / "owners.json").write_text('{"a": ["/usr/a"]}')
    cache = open_cache(tmp_path / "cache")
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        workshop = Workshop(tmp_path / name, needs, cache, io.StringIO(), EPOCH)
        make_root_stage(recipe, make_lock()).make(workshop)
        results.append((tmp_path / name / "root.tar").read_bytes())
    assert results[0] == results[1]
    tree = read_tar(tmp_path / "one/root.tar")
    assert tree.read("/etc/motd") == b"hello"
    assert "/etc/os-release" in tree.nodes or "/usr/lib/os-release" in tree.nodes


# Files of the recipe.


def test_files_have_the_content_and_mode_that_the_recipe_says(write: Write) -> None:
    write("tool.sh", "#!/bin/sh\n")
    text = 'files: [{path: /a, content: "é"}, {path: /usr/bin/tool, source: tool.sh, mode: "0755"}]\n'
    tree = make_files_tree(load_recipe(write("r.yaml", HEAD + text)))
    assert (tree.read("/a"), tree.nodes["/a"].mode) == ("é".encode(), 0o644)
    assert (tree.read("/usr/bin/tool"), tree.nodes["/usr/bin/tool"].mode) == (b"#!/bin/sh\n", 0o755)


def test_a_file_where_the_image_has_a_folder_is_refused(write: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write("r.yaml", f"{HEAD}files: [{{path: /etc/ssh, content: x}}]\n"))
    stages = {"packages": put(tmp_path / "packages", "root.tar", etc_ssh_config="x")}
    with pytest.raises(UsageError, match="files: /etc/ssh: a folder in this image, with /etc/ssh/config"):
        make_root_tree(recipe, stages, [make_files_tree(recipe)])


def test_every_image_can_grow_its_data(recipe: Recipe, tmp_path: Path) -> None:
    needs = {name: put(tmp_path / name, file, x=name) for name, file in LAYERS.items() if name != "kubernetes"}
    (tmp_path / "result").mkdir()
    cache = open_cache(tmp_path / "cache")
    make_root_stage(recipe, make_lock()).make(Workshop(tmp_path / "result", needs, cache, io.StringIO(), EPOCH))
    tree = read_tar(tmp_path / "result/root.tar")
    assert "/usr/lib/systemd/system/cumulet-grow.service" in tree.nodes
    assert tree.nodes["/usr/lib/systemd/system/multi-user.target.wants/cumulet-grow.service"].kind == "link"


def test_a_file_that_went_away_is_named(write: Write) -> None:
    source = write("x.txt", "x")
    recipe = load_recipe(write("r.yaml", f"{HEAD}files: [{{path: /a, source: x.txt}}]\n"))
    source.unlink()
    with pytest.raises(UsageError) as caught:
        make_files_tree(recipe)
    assert caught.value.message == f"files: {source}: No such file or directory"
    assert caught.value.hint == "it is read from beside its recipe"


def test_a_digest_knows_names_modes_owners_targets_and_contents() -> None:
    def make(content: str = "x", mode: int = 0o644, uid: int = 0, target: str = "a", name: str = "/a") -> str:
        tree = Tree()
        tree.file(name, content, mode, uid)
        tree.link("/l", target)
        return digest_of(tree)

    assert make() == make()
    others = [make(content="y"), make(mode=0o755), make(uid=1), make(target="b"), make(name="/b")]
    assert len({make(), *others}) == 6


# Trimming.


def test_what_is_kept_stays_with_its_folders_also_below_a_dropped_one() -> None:
    tree = Tree()
    tree.folder("/etc/init.d", 0o700)
    for path in ("/etc/init.d/a", "/etc/init.d/b", "/usr/share/perl5/X/y.pm", "/usr/share/perl5/z.pm", "/usr/bin/x"):
        tree.file(path, path)
    tree.folder("/usr/share/perl5")
    tree.folder("/usr/share/perl5/X", 0o750)
    trimmed = trim_tree(tree, Trim(keep=("/etc/init.d/a", "/usr/share/perl5/*/y.pm")))
    assert set(trimmed.nodes) == {
        "/etc/init.d",
        "/etc/init.d/a",
        "/usr/bin/x",
        "/usr/share/perl5",
        "/usr/share/perl5/X",
        "/usr/share/perl5/X/y.pm",
    }
    assert (trimmed.nodes["/etc/init.d"].mode, trimmed.nodes["/usr/share/perl5/X"].mode) == (0o700, 0o750)


def test_a_kept_hard_link_of_something_dropped_is_the_file() -> None:
    tree = Tree()
    tree.file("/usr/bin/perl", "perl")
    tree.nodes["/usr/bin/perl5.40"] = Node("hardlink", 0o755, target="/usr/bin/perl")
    trimmed = trim_tree(tree, Trim(keep=("/usr/bin/perl5.40",)))
    assert {path: trimmed.read(path) for path in trimmed.nodes} == {"/usr/bin/perl5.40": b"perl"}


def dangling(**links: str) -> set[str]:
    """The paths of links (`_` for `/`) that do not survive in a small system."""
    tree = Tree()
    tree.link("/bin", "usr/bin")
    tree.link("/lib", "/usr/lib")
    tree.file("/usr/bin/vim", "")
    tree.file("/usr/lib/systemd/system/ssh.service", "")
    tree.file("/usr/lib/tool/v2/bin/tool", "")
    tree.link("/usr/lib/tool/current", "v2")
    paths = {"/" + name.replace("_", "/"): target for name, target in links.items()}
    for path, target in paths.items():
        tree.link(path, target)
    return set(paths) - set(drop_dangling(tree).nodes)


def test_links_that_lead_nowhere_are_dropped_where_trimming_leaves_them() -> None:
    assert dangling(usr_bin_perl5="perl", etc_alternatives_vi="/usr/bin/gone") == {
        "/usr/bin/perl5",
        "/etc/alternatives/vi",
    }
    assert dangling(etc_other="/nowhere") == set()


def test_links_that_lead_somewhere_stay() -> None:
    links = {
        "etc_alternatives_vi": "/usr/bin/vim",
        "etc_alternatives_ex": "/bin/vim",
        "etc_systemd_system_sshd.service": "/lib/systemd/system/ssh.service",
        "etc_systemd_system_x.service": "/dev/null",
        "usr_bin_sh": "../bin/vim",
        "usr_bin_tool": "../lib/tool/current/bin/tool",
        "usr_sbin_run": "/run/tool",
    }
    assert dangling(**links) == set()


def test_a_link_to_a_link_that_leads_nowhere_goes_with_it() -> None:
    assert dangling(usr_bin_vi="/etc/alternatives/vi", etc_alternatives_vi="/usr/bin/gone") == {
        "/usr/bin/vi",
        "/etc/alternatives/vi",
    }


def test_a_file_that_nobody_answers_for_ends_the_stage(recipe: Recipe, tmp_path: Path) -> None:
    needs = {
        "packages": put(tmp_path / "packages", "root.tar", opt_x=""),
        "kernel": put(tmp_path / "kernel", "kernel.tar"),
        "sdk": put(tmp_path / "sdk", "sdk.tar"),
    }
    workshop = Workshop(tmp_path, needs, open_cache(tmp_path / "cache"), io.StringIO(), EPOCH)
    with pytest.raises(TargetError, match="edge: no package, feature or stage owns /opt/x"):
        make_root_stage(recipe, make_lock()).make(workshop)
