"""What the yocto engine refuses before it starts, where it says so, and the commands around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet.core.documents import parse_document
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.cli import main
from cumulet_builder.engines.yocto import bitbake, repositories
from cumulet_builder.engines.yocto.bitbake import make_command, want_container
from cumulet_builder.engines.yocto.checks import K3S, KUBEADM, Known, find_problems
from cumulet_builder.engines.yocto.machines import load_machines
from cumulet_builder.engines.yocto.prepare import check_recipe, make_lock, prepare
from cumulet_builder.engines.yocto.stages import find_folders
from cumulet_builder.parity import Cell, load_parity, make_table
from cumulet_builder.recipe.load import Resolved, load_recipe, resolve_recipe
from cumulet_builder.user_config import YoctoConfig, load_user_config

Write = Callable[[str, str], Path]
Capture = pytest.CaptureFixture[str]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\nengine: yocto\n"


def problems(path: Path) -> list[tuple[str, int, str]]:
    """(file, line, message) of everything that is wrong."""
    with pytest.raises(UsageError) as caught:
        check_recipe(resolve_recipe(path), find_folders())
    return [(Path(each.file).name, each.line, each.message) for each in caught.value.problems]


def test_a_recipe_of_what_the_layers_have_is_planned(write: Write) -> None:
    text = f"{HEAD}features: [base, containers]\npackages: [htop]\nyocto: {{packages: [htop]}}\n"
    check_recipe(resolve_recipe(write("r.yaml", text)), find_folders())


def test_a_board_without_a_machine_is_refused_at_its_line(write: Write) -> None:
    path = write("r.yaml", HEAD.replace("arm64", "amd64"))
    assert [each[2] for each in problems(path)] == ["board: the yocto engine has no machine for 'qemu-amd64'"]


def test_a_distribution_that_only_the_debian_engine_builds_is_refused_at_its_line(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}features: [base, containers]\nkubernetes: {{distribution: kubeadm}}\n")
    assert problems(path) == [
        ("r.yaml", 6, "kubernetes: kubeadm's programs are built from Go modules by the debian engine alone")
    ]


def test_another_version_of_k3s_than_the_layers_have_is_refused(write: Write) -> None:
    text = f"{HEAD}features: [base, containers]\nkubernetes: {{distribution: k3s, version: %s}}\n"
    assert problems(write("r.yaml", text % "v1.36.2+k3s1")) == [
        ("r.yaml", 6, f"kubernetes.version: the layers build k3s {K3S}")
    ]
    check_recipe(resolve_recipe(write("s.yaml", text % K3S)), find_folders())


def test_debian_packages_that_nothing_stands_for_are_named_where_they_are_written(write: Write) -> None:
    write("part.yaml", "version: 1\npackages: [vim]\nyocto: {packages: []}\n")
    path = write("r.yaml", f"{HEAD}include: [part.yaml]\npackages: [htop, tmux]\nwheels: [numpy]\n")
    assert problems(path) == [
        ("r.yaml", 6, "the yocto engine has no Debian packages: htop, tmux"),
        ("r.yaml", 7, "the yocto engine has no wheels: numpy"),
    ]


def test_a_debian_package_of_an_option_is_named_as_such(write: Write) -> None:
    with pytest.raises(UsageError, match=r"--set packages\+=htop: the yocto engine has no Debian packages: htop"):
        check_recipe(resolve_recipe(write("r.yaml", HEAD), ("packages+=htop",)), find_folders())


def test_what_a_fragment_says_of_itself_is_the_reason(write: Write) -> None:
    write("part.yaml", "version: 1\nyocto:\n  unsupported: its driver is a binary for Debian\n")
    path = write("r.yaml", f"{HEAD}include: [part.yaml]\n")
    reason = "part.yaml: not with the yocto engine: its driver is a binary for Debian"
    assert problems(path) == [("part.yaml", 3, reason)]


@pytest.mark.parametrize("feature", ["modem-5g", "gnss-beidou"])
def test_a_feature_is_refused_for_the_board_that_it_cannot_be_built_for_and_no_other(
    write: Write, feature: str
) -> None:
    text = f"{HEAD}features: [base, {feature}]\n"
    check_recipe(resolve_recipe(write("r.yaml", text)), find_folders())
    [(file, _, message)] = problems(write("s.yaml", text.replace("qemu-arm64", "pinephone")))
    reason = "no layer has eg25-manager, which switches this board's modem on"
    assert (file, message) == (f"{feature}.yaml", f"feature {feature!r}: not with the yocto engine: {reason}")


def test_an_unknown_fragment_of_layers_is_refused_at_its_line(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}yocto:\n  layers: [onnxruntime, tensorflow]\n")
    assert problems(path) == [("r.yaml", 6, "yocto.layers: no fragment 'tensorflow'")]


def test_a_format_or_a_check_of_the_root_that_only_the_debian_engine_has_is_refused(write: Write) -> None:
    # Checked in the document: what a recipe may say is for the model.
    text = f"{HEAD}formats: [tar, android]\ndisk: {{verity: true}}\n"
    document = parse_document(text, "r.yaml")
    known = Known(frozenset({"qemu-arm64"}), frozenset())
    recipe = load_recipe(write("r.yaml", HEAD))
    found = find_problems(Resolved(recipe, document, ()), known)
    assert [each.message for each in found] == [
        "formats: not with the yocto engine: android",
        "disk.verity: the yocto engine writes no tree of hashes",
    ]


def test_a_package_of_a_layer_has_no_version(write: Write) -> None:
    with pytest.raises(UsageError, match="'htop=3' is not the name of a package of a layer"):
        load_recipe(write("r.yaml", f"{HEAD}yocto: {{packages: [htop=3]}}\n"))


def test_every_problem_comes_at_once(write: Write) -> None:
    text = HEAD.replace("arm64", "amd64") + "packages: [htop]\nyocto: {layers: [none]}\n"
    assert len(problems(write("r.yaml", text))) == 2


def test_k3s_without_a_digest_of_its_images_is_refused(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}features: [base, containers]\nkubernetes: {{distribution: k3s}}\n")
    recipe = load_recipe(path)
    with pytest.raises(UsageError, match="no SHA-256 of k3s-airgap-images-arm64") as caught:
        prepare(recipe, make_lock(recipe, False, find_folders()), find_folders())
    assert caught.value.hint == f"cumulet pin k3s {K3S}, or kubernetes.source: file"


def test_images_from_disk_are_named_with_a_part_of_their_digest(write: Write) -> None:
    write("images.tar.zst", "images")
    text = "kubernetes: {distribution: k3s, source: file, files: {images: images.tar.zst}}\n"
    recipe = load_recipe(write("r.yaml", f"{HEAD}features: [base, containers]\n{text}"))
    prepared = prepare(recipe, make_lock(recipe, False, find_folders()), find_folders())
    assert prepared.archive is not None and prepared.setting.images is not None
    name = prepared.setting.images.name
    assert name == f"{prepared.setting.images.sha256[:16]}-images.tar.zst"
    assert prepared.setting.images.uri == f"file://{name}"
    assert "virtualization" in {each.removeprefix("meta-") for each in names(prepared.setting.lock)}


def names(lock: repositories.LayerLock) -> list[str]:
    return [each.name for each in lock.repositories]


def test_a_missing_file_of_images_is_said_to_be_missing(write: Write) -> None:
    text = "kubernetes: {distribution: k3s, source: file, files: {images: none.tar.zst}}\n"
    recipe = load_recipe(write("r.yaml", f"{HEAD}features: [base, containers]\n{text}"))
    with pytest.raises(UsageError, match=r"kubernetes.files.images: .*none.tar.zst: no such file"):
        prepare(recipe, make_lock(recipe, False, find_folders()), find_folders())


def test_the_newest_commits_are_asked_of_every_repository(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    recipe = load_recipe(write("r.yaml", HEAD))
    lock = make_lock(recipe, False, find_folders())
    monkeypatch.setattr(repositories, "_fetch_head", lambda each: each.commit)
    assert repositories.fetch_heads(lock, 5) == lock
    monkeypatch.setattr(repositories, "_fetch_head", lambda each: "2" * 40)
    moved = repositories.fetch_heads(lock, 5)
    assert ({each.commit for each in moved.repositories}, moved.epoch) == ({"2" * 40}, 5)
    assert moved.digest != lock.digest


def test_a_repository_that_does_not_answer_is_named(tmp_path: Path) -> None:
    each = repositories.LockedRepository(name="x", url=str(tmp_path), branch="main", commit="0" * 40, layers={})
    with pytest.raises(ToolError, match=str(tmp_path)):
        repositories.fetch_heads(repositories.LayerLock(image="x", epoch=1, repositories=(each,)), 5)


@pytest.mark.parametrize("text", ["{", '{"version": 1, "image": "x"}', '{"version": 1, "packages": []}'])
def test_a_lock_of_another_kind_is_refused(write: Write, text: str) -> None:
    with pytest.raises(UsageError, match=r"x.lock.json: not a lock of the yocto engine"):
        repositories.load_lock(write("x.lock.json", text))


def test_every_repository_of_every_fragment_has_a_commit() -> None:
    recipes = find_assets("recipes")
    fragments = repositories.load_fragments(recipes, repositories.known_fragments(recipes))
    commits, epoch = repositories.load_pins(recipes)
    lock = repositories.make_lock("x", fragments, commits, epoch)
    assert set(names(lock)) == set(commits)
    assert all(len(each.commit) == 40 and each.url.startswith("https://") for each in lock.repositories)
    assert epoch > 1_700_000_000


def test_the_parity_table_says_no_with_the_reason_that_a_build_gives() -> None:
    cells = {(cell.feature, cell.engine, cell.distribution): cell for cell in load_parity(find_folders())}
    assert cells["base", "debian", "kubeadm"].builds
    assert cells["containers", "yocto", "k3s"].builds
    assert cells["base", "yocto", "kubeadm"].reason == f"kubernetes: {KUBEADM}"
    features = {path.stem for path in (find_assets("recipes") / "features").glob("*.yaml")}
    assert {feature for feature, _, _ in cells} == features
    assert make_table(list(cells.values())) in (Path(__file__).parents[2] / "docs/yocto.md").read_text()


def test_a_table_has_a_row_for_each_feature_and_numbers_its_reasons() -> None:
    cells = [
        Cell("base", "Base", "debian", "k3s"),
        Cell("base", "Base", "yocto", "k3s", "no such layer"),
        Cell("more", "More", "debian", "k3s", "no such package"),
        Cell("more", "More", "yocto", "k3s", "no such layer"),
    ]
    assert make_table(cells) == (
        "| feature | debian, k3s | yocto, k3s |\n|---|---|---|\n"
        "| base | yes | no (1) |\n| more | no (2) | no (1) |\n\n1. no such layer\n2. no such package\n"
    )


def test_kas_prints_the_document_of_any_recipe(write: Write, capsys: Capture) -> None:
    write("edge.yaml", HEAD.replace("engine: yocto\n", "features: [base]\n"))
    assert main(["kas", "edge.yaml", "--set", "disk.root=512MiB"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["machine"] == "cumulet-qemuarm64"
    assert 'CUMULET_SIZE_ROOT = "512"' in document["local_conf_header"]["cumulet"]


def test_kas_writes_all_that_kas_needs(write: Write, here: Path, capsys: Capture) -> None:
    write("edge.yaml", f"{HEAD}features: [base]\n")
    assert main(["kas", "edge.yaml", "--to", "build", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["distro"] == "cumulet"
    written = (here / "build/kas.yaml").read_text()
    assert main(["kas", "edge.yaml", "--to", "build"]) == 0
    assert (here / "build/kas.yaml").read_text() == written
    assert {path.name for path in (here / "build/handover").iterdir()} >= {"system.tar", "init.tar", "sdk.tar"}


def test_an_engine_is_named_on_the_command_line(write: Write, capsys: Capture) -> None:
    write("edge.yaml", "version: 1\nimage: edge\nboard: qemu-arm64\nfeatures: [base]\n")
    assert main(["plan", "edge.yaml", "--engine", "yocto", "--json"]) == 0
    stages = [each["stage"] for each in json.loads(capsys.readouterr().out)["stages"]]
    assert stages == ["layers", "bitbake", "kernel", "initramfs", "packages", "root", "erofs", "image"]


def test_a_lock_of_layers_counts_its_repositories(write: Write, capsys: Capture) -> None:
    write("edge.yaml", HEAD)
    assert main(["lock", "edge.yaml"]) == 0
    assert capsys.readouterr().out == "edge.lock.json: 3 repositories\n"


def test_the_users_settings_are_checked_like_a_recipe(write: Write) -> None:
    path = write("config.yaml", "version: 1\nyocto: {sstat: /x, threads: 0}\n")
    with pytest.raises(UsageError) as caught:
        load_user_config(path)
    assert sorted(each.message for each in caught.value.problems) == [
        "unknown key 'sstat' in yocto", "yocto.threads: must be at least 1, got 0"
    ]  # fmt: skip
    assert load_user_config(path.with_name("none.yaml")).yocto == YoctoConfig()


@pytest.mark.parametrize(
    ("container", "missing", "runtime", "expected"),
    [
        ("never", ["cpio"], True, False),
        ("always", [], False, True),
        ("auto", [], True, False),
        ("auto", ["cpio"], True, True),
    ],
)
def test_a_container_is_for_computers_that_lack_something(
    container: Any, missing: list[str], runtime: bool, expected: bool
) -> None:
    assert want_container(YoctoConfig(container=container), missing, runtime) is expected


def test_a_computer_that_can_do_neither_is_told_what_to_install() -> None:
    assert bitbake.missing_tools(lambda name: None if name in ("chrpath", "lz4") else "/bin/x") == ["chrpath", "lz4"]
    with pytest.raises(ToolError, match="lacks: chrpath, rpcgen") as caught:
        want_container(YoctoConfig(), ["chrpath", "rpcgen"], False)
    assert caught.value.hint.startswith("sudo apt-get install chrpath rpcsvc-proto, or install podman")


def test_without_kas_one_is_told_how_to_get_it() -> None:
    bitbake.check_kas(lambda name: name)
    with pytest.raises(ToolError, match="kas is not installed") as caught:
        bitbake.check_kas(lambda name: None)
    assert caught.value.hint == "pip install 'cumulet-board[yocto]'"


def test_a_container_sees_the_folders_that_the_documents_name() -> None:
    words = make_command(Path("/there"), [Path("/layers"), Path("/there"), Path("/shared")], True)
    assert Path(words[0]).name == "kas-container"
    assert words[1:] == [
        "--runtime-args", "-v /layers:/layers -v /shared:/shared -v /there:/there", "build",
        "/there/kas.yaml:/there/computer.yaml",
    ]  # fmt: skip
    assert make_command(Path("/there"), [], False)[1:] == ["-m", "kas", "build", "/there/kas.yaml:/there/computer.yaml"]


def test_a_machine_that_says_nothing_of_its_board_is_a_fault_of_the_layer(tmp_path: Path) -> None:
    folder = tmp_path / "meta-cumulet-bsp/conf/machine"
    folder.mkdir(parents=True)
    (folder / "new.conf").write_text('CUMULET_BOARD = "new"\n')
    with pytest.raises(UsageError, match="sets no CUMULET_BOARD, or no CUMULET_BOOT"):
        load_machines(tmp_path)
