"""Recipes: what a file may reach, and every problem with its place, all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.recipe.load import load_recipe

Write = Callable[[str, str], Path]
BOARDS = ", ".join(sorted(path.stem for path in (find_assets("recipes") / "boards").glob("*.yaml")))
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
K8S = "features: [base, containers]\nkubernetes: {distribution: k3s}\n"


def problems(path: Path, *overrides: str) -> list[str]:
    """Every problem of a recipe, as it is printed."""
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    return [str(each) for each in caught.value.problems]


def bundle(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipes folder of our own with the board `tiny`."""
    path = write(
        "recipes/boards/tiny.yaml",
        "version: 1\nboard: tiny\ntitle: Tiny\narchitecture: arm64\nkernel: {package: linux-image-arm64}\n",
    )
    monkeypatch.setattr("cumulet_builder.recipe.load.find_assets", lambda name: path.parents[1])


# What a file may reach.


def test_a_fragment_may_not_leave_its_folder(write: Write, here: Path) -> None:
    write("outside.yaml", "version: 1\n")
    path = write("in/r.yaml", f"{HEAD}include: [../outside.yaml]\n")
    assert problems(path) == [
        f"in/r.yaml:4:11: include: '../outside.yaml' is outside of {here}/in\n  keep the file inside this folder"
    ]


def test_a_link_out_of_the_folder_is_no_way_out(write: Write, here: Path) -> None:
    write("outside.txt", "x")
    path = write("in/r.yaml", f"{HEAD}files: [{{path: /etc/x, source: link}}]\n")
    (here / "in/link").symlink_to("../outside.txt")
    assert problems(path)[0].startswith("in/r.yaml:4:32: source: 'link' is outside of ")


def test_a_repository_is_one_folder(write: Write, here: Path) -> None:
    (here / ".git").mkdir()
    write("common/a.yaml", "version: 1\nsuite: forky\n")
    assert load_recipe(write("images/r.yaml", f"{HEAD}include: [../common/a.yaml]\n")).suite == "forky"


def test_absolute_sources_are_outside(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}files: [{{path: /etc/x, source: /etc/passwd}}]\n")
    assert problems(path)[0].startswith("r.yaml:4:32: source: '/etc/passwd' is outside of ")


def test_bundled_recipes_stay_in_their_folder(write: Write, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    bundle(write, monkeypatch)
    (here / ".git").mkdir()
    write("secret.yaml", "version: 1\n")
    write("recipes/features/leak.yaml", "version: 1\ntitle: L\ninclude: [../../secret.yaml]\n")
    path = write("r.yaml", "version: 1\nimage: x\nboard: tiny\nfeatures: [leak]\n")
    assert problems(path)[0].startswith("recipes/features/leak.yaml:3:11: include: '../../secret.yaml' is outside of ")


# Problems in the files themselves.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("board: qemu-arm46", "3:8: unknown board 'qemu-arm46'\n  did you mean 'qemu-arm64'?"),
        ("board: zzz", f"3:8: unknown board 'zzz'\n  known boards: {BOARDS}"),
        ("board: {board: x}", f"3:8: board: must be a name, got a mapping\n  known boards: {BOARDS}"),
        ("board: ./none.yaml", "3:8: board: './none.yaml': no such file"),
        ("title: x", "1:1: missing key 'board' in recipe"),
        ("board: qemu-arm64\nfeatures: [contaners]", "4:12: unknown feature 'contaners'\n  did you mean 'containers'?"),
        (
            "board: qemu-arm64\nfeatures: base",
            "4:11: features: must be a list of names, got 'base'\n  write it like features: [...]",
        ),
        ("board: qemu-arm64\nfeatures: [1]", "4:12: features: must be text, got 1"),
        (
            "board: qemu-arm64\ninclude: a.yaml",
            "4:10: include: must be a list of paths, got 'a.yaml'\n  write it like include: [...]",
        ),
        ("board: qemu-arm64\ninclude: [none.yaml]", "4:11: include: 'none.yaml': no such file"),
        ("board: qemu-arm64\ninclude: [r.yaml]", "4:11: include: 'r.yaml' includes itself"),
        ("board: qemu-arm64\nengin: debian", "4:1: unknown key 'engin' in recipe\n  did you mean 'engine'?"),
        ("board: qemu-arm64\nsdk: maybe", "4:6: sdk: must be true or false, got 'maybe'"),
        ("board: qemu-arm64\ndisk: {root: 30Mib}", "4:14: disk.root: not a size: '30Mib'; write it like 400MiB"),
        ("board: qemu-arm64\ndisk: {rot: 30MiB}", "4:8: unknown key 'rot' in disk\n  did you mean 'root'?"),
        (
            "board: qemu-arm64\npackages: [Htop]",
            "4:12: packages[0]: 'Htop' is not the name of a Debian package; write it like htop, or htop=3.4.1-5",
        ),
        (
            "board: qemu-arm64\npackages: [-oX=y]",
            "4:12: packages[0]: '-oX=y' is not the name of a Debian package; write it like htop, or htop=3.4.1-5",
        ),
        (
            "board: qemu-arm64\nmodules: [kernel/x.ko]",
            "4:11: modules[0]: 'kernel/x.ko' is not the name of a kernel module; write it like veth, "
            "without .ko and folder",
        ),
        (
            "board: qemu-arm64\nmask: [ssh]",
            "4:8: mask[0]: 'ssh' is not the name of a systemd unit; write it like ssh.service",
        ),
        (
            "board: qemu-arm64\nnode: {hostname: A_b}",
            "4:18: node.hostname: 'A_b' is not a host name: use lower-case letters, digits and '-'",
        ),
        (
            "board: qemu-arm64\nssh: {authorized_keys: [me@laptop]}",
            "4:25: ssh.authorized_keys[0]: 'me@laptop' is not a public key; write the line that stands in a .pub file, "
            "like: ssh-ed25519 AAAA...",
        ),
        (
            "board: qemu-arm64\nfiles: [{path: etc/x, content: a}]",
            "4:16: files[0].path: 'etc/x' is not a path in the image; write it like /etc/motd, without '..' "
            "and without '/' at the end",
        ),
        (
            "board: qemu-arm64\nfiles: [{path: /etc/../x, content: a}]",
            "4:16: files[0].path: '/etc/../x' is not a path in the image; write it like /etc/motd, without '..' "
            "and without '/' at the end",
        ),
        (
            "board: qemu-arm64\nfiles: [{path: /x, content: a, mode: rwx}]",
            "4:38: files[0].mode: 'rwx' is not permissions; write them in octal, like \"0644\"",
        ),
        ("board: qemu-arm64\nfiles: [{path: /x, source: none}]", "4:28: source: 'none': no such file"),
    ],
)
def test_bad_recipe(write: Write, text: str, problem: str) -> None:
    assert problems(write("r.yaml", f"version: 1\nimage: edge\n{text}\n")) == [f"r.yaml:{problem}"]


def test_a_board_that_cannot_be_read_is_one_problem(write: Write) -> None:
    path = write("r.yaml", HEAD.replace("arm64", "arm46"))
    expected = ["r.yaml:3:8: unknown board 'qemu-arm46'\n  did you mean 'qemu-arm64'?"]
    assert problems(path, "board.qemu.cpus=4") == expected
    write("board.yaml", "version: 1\nboard: [\n")
    found = problems(write("r.yaml", "version: 1\nimage: edge\nboard: board.yaml\n"))
    assert [each.split(": ")[0] for each in found] == ["board.yaml:3:1"]


def test_a_bad_name(write: Write) -> None:
    path = write("r.yaml", "version: 1\nimage: My Node\nboard: qemu-arm64\n")
    assert problems(path) == [
        "r.yaml:2:8: image: 'My Node' is not a name: use lower-case letters, digits, '.', '+' and '-'"
    ]
    assert problems(write("r.yaml", HEAD.replace("edge", "x" * 64)))[0].startswith(
        "r.yaml:2:8: image: must be at most 63 letters long, got "
    )


def test_permissions_need_no_quotes(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}files: [{{path: /x, content: a, mode: 0755}}]\n")
    assert load_recipe(path).files[0].mode == "0755"


def test_a_bad_value_in_a_fragment_is_reported_there(write: Write) -> None:
    write("parts/a.yaml", "version: 1\nnode:\n  role: sinlge\n")
    path = write("r.yaml", f"{HEAD}include: [parts/a.yaml]\n")
    assert problems(path) == [
        "parts/a.yaml:3:9: node.role: must be one of none, single, control, master, worker, got 'sinlge'\n"
        "  did you mean 'single'?"
    ]


def test_a_bad_board_is_reported_in_its_file(write: Write) -> None:
    write("board.yaml", "version: 1\nboard: mine\narchitecture: arm46\nkernal: {}\ndefaults: [x]\n")
    path = write("r.yaml", "version: 1\nimage: edge\nboard: board.yaml\n")
    assert problems(path) == [
        "board.yaml:1:1: missing key 'title' in board",
        "board.yaml:1:1: missing key 'kernel' in board",
        "board.yaml:3:15: board.architecture: must be one of arm64, amd64, got 'arm46'\n  did you mean 'arm64'?",
        "board.yaml:4:1: unknown key 'kernal' in board\n  did you mean 'kernel'?",
        "board.yaml:5:11: defaults: must be a mapping, got a list",
    ]


def test_broken_fragments_do_not_hide_other_problems(write: Write) -> None:
    write("a.yaml", "version: 1\nversion: 1\n")
    write("b.yaml", "version: 2\nanything: goes\n")
    write("c.yaml", "packages: []\n")
    path = write("r.yaml", f"{HEAD}include: [a.yaml, b.yaml, c.yaml]\nengin: x\n")
    found = problems(path)
    assert found[0] == "a.yaml:2:1: duplicate key 'version', first on line 1"
    assert found[1].startswith("b.yaml:1:10: recipe version 2 needs a newer cumulet")
    assert found[2] == "c.yaml:1:1: missing key 'version' in recipe\n  begin with: version: 1"
    assert found[3] == "r.yaml:5:1: unknown key 'engin' in recipe\n  did you mean 'engine'?"
    assert len(found) == 4


def test_features_cannot_set_what_belongs_to_the_image(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(write, monkeypatch)
    write("recipes/features/f.yaml", "version: 1\ntitle: F\nboard: tiny\nimage: y\n")
    path = write("r.yaml", "version: 1\nimage: x\nboard: tiny\nfeatures: [f]\n")
    assert problems(path) == [
        "recipes/features/f.yaml:3:1: a feature cannot set 'board'\n  set it in the image's recipe",
        "recipes/features/f.yaml:4:1: a feature cannot set 'image'\n  set it in the image's recipe",
    ]


def test_no_such_recipe_file(here: Path) -> None:
    assert problems(Path("none.yaml")) == ["none.yaml: no such file\n  name an existing recipe"]


# Impossible combinations.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            K8S.replace("k3s}", "k3s, source: modules}"),
            "5:41: kubernetes.source: k3s does not come from 'modules'\n  source: release or file",
        ),
        (
            K8S.replace("k3s}", "kubeadm, source: release}"),
            "5:45: kubernetes.source: kubeadm does not come from 'release'\n  source: modules",
        ),
        (
            K8S.replace("k3s}", "k3s, source: file}"),
            "5:41: kubernetes: source 'file' names no binary\n  files: {binary: PATH, images: PATH}",
        ),
        (
            K8S.replace("k3s}", "k3s, files: {binary: k3s}}"),
            "5:33: kubernetes.files: is only for source 'file'\n  source: file, or leave files out",
        ),
        (
            "kubernetes: {distribution: k3s}",
            "4:1: kubernetes: needs the feature 'containers'\n  add containers to features",
        ),
        (
            K8S.replace("k3s}", "k3s, pod_cidr: 10.43.128.0/17}"),
            "5:13: kubernetes: pods 10.43.128.0/17 and services 10.43.0.0/16 overlap\n  give them different networks",
        ),
        (
            K8S.replace("k3s}", "k3s, pod_cidr: 10.42.0.1/16}"),
            "5:43: kubernetes.pod_cidr: '10.42.0.1/16' is not a network; write it like 10.42.0.0/16",
        ),
        (
            "node: {role: single}",
            "4:14: node.role: 'single' needs kubernetes in the image\n  add kubernetes, or role: none",
        ),
        ("files: [{path: /x}]", "4:9: files[0]: has neither content nor source\n  add content: or source:"),
        (
            "files: [{path: /x, content: a, source: r.yaml}]",
            "4:9: files[0]: has both content and source\n  leave one of them out",
        ),
        (
            "mask: [a.service]\nenable: [a.service]",
            "4:8: mask: 'a.service' is enabled too\n  leave it out of mask or of enable",
        ),
        (
            "size_budget: {root: 400MiB}",
            "4:21: size_budget.root: 400MiB is more than the root partition holds, 320MiB\n"
            "  raise disk.root, or lower the budget",
        ),
        ("test: [kubernetes]", "4:8: test: 'kubernetes' needs kubernetes in the image\n  add kubernetes"),
        (
            f"{K8S.replace('k3s', 'kubeadm')}test: [k3s]",
            "6:8: test: 'k3s' does not fit the distribution 'kubeadm'\n  test: kubernetes, or distribution: k3s",
        ),
    ],
)
def test_impossible_combinations(write: Write, text: str, problem: str) -> None:
    assert problems(write("r.yaml", f"{HEAD}{text}\n")) == [f"r.yaml:{problem}"]


def test_tests_need_a_board_that_qemu_can_play(write: Write) -> None:
    write(
        "board.yaml",
        "version: 1\nboard: mine\ntitle: Mine\narchitecture: arm64\nkernel: {package: linux-image-arm64}\n",
    )
    text = "version: 1\nimage: edge\nboard: board.yaml\n"
    assert load_recipe(write("r.yaml", text)).board.qemu is None
    assert problems(write("r.yaml", f"{text}test: [base]\n")) == [
        "r.yaml:4:1: test: the board 'mine' has no QEMU settings\n  test: [], or add qemu: to the board"
    ]


def test_combinations_that_are_fine(write: Write) -> None:
    recipe = load_recipe(write("r.yaml", f"{HEAD}{K8S}ssh: {{enabled: true}}\nnode: {{role: none}}\ntest: []\n"))
    assert recipe.ssh.authorized_keys == ()
    recipe = load_recipe(write("r.yaml", f"{HEAD}size_budget: {{root: 320MiB}}\nkubernetes: null\n"))
    assert recipe.kubernetes is None


def test_conflicts_are_named_beside_other_problems(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}engin: x\nfiles: [{{path: /x, mode: rwx}}]\nsize_budget: {{root: 1GiB, disk: x}}\n")
    assert [each.split(": ")[0] for each in problems(path)] == [
        "r.yaml:4:1", "r.yaml:5:9", "r.yaml:5:26", "r.yaml:6:21", "r.yaml:6:33",
    ]  # fmt: skip
