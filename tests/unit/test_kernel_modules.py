"""Kernel modules by name: patterns, needs, load order."""

from __future__ import annotations

from cumulet_builder.modules import find_modules, make_index, make_load_order, module_name

LISTS = {
    "modules.dep": b"""kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/net/netfilter/nf_nat.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/nf_conntrack.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/drivers/usb/misc/qcom-pmic.ko.xz:
""",
    "modules.softdep": b"# made by depmod\nsoftdep ext4 pre: crypto-crc32c post: qcom_pmic\n",
    "modules.alias": b"alias crypto-crc32c crc32c_generic\nalias virtio:d00000002v* virtio_blk\n",
    "modules.builtin": b"kernel/drivers/virtio/virtio_pci.ko\n",
    "modules.dep.bin": b"\xff\xfe",
}
INDEX = make_index(LISTS)


def names(paths: list[str]) -> list[str]:
    return [module_name(path) for path in paths]


def test_module_names_do_not_tell_dash_from_underscore() -> None:
    assert module_name("kernel/drivers/usb/misc/qcom-pmic.ko.xz") == "qcom_pmic"
    assert find_modules(["qcom-pmic"], INDEX, "x") == find_modules(["qcom_pmic"], INDEX, "x")


def test_needed_modules_follow_by_themselves() -> None:
    paths, problems = find_modules(["nf_nat"], INDEX, "recipe")
    assert problems == []
    assert set(names(paths)) == {"nf_nat", "nf_conntrack", "libcrc32c"}


def test_soft_needs_come_through_aliases() -> None:
    paths, _ = find_modules(["ext4"], INDEX, "recipe")
    assert "crc32c_generic" in names(paths)
    assert "qcom_pmic" in names(paths)


def test_every_module_loads_after_what_it_needs() -> None:
    order = names(make_load_order([INDEX.paths["ext4"], INDEX.paths["nf_nat"]], INDEX))
    assert order.index("libcrc32c") < order.index("nf_conntrack") < order.index("nf_nat")
    assert order.index("crc32c_generic") < order.index("ext4") < order.index("qcom_pmic")
    assert len(order) == len(set(order))


def test_a_glob_with_a_slash_names_a_folder() -> None:
    paths, _ = find_modules(["net/netfilter/*"], INDEX, "recipe")
    assert set(names(paths)) == {"nf_nat", "nf_conntrack", "libcrc32c"}


def test_a_glob_matches_names() -> None:
    paths, _ = find_modules(["nf_*"], INDEX, "recipe")
    assert {"nf_nat", "nf_conntrack"} <= set(names(paths))


def test_what_is_built_in_is_no_problem_and_no_module() -> None:
    assert find_modules(["virtio_pci", "virtio-*"], INDEX, "recipe") == ([], [])


def test_an_unknown_module_gets_a_suggestion() -> None:
    _, problems = find_modules(["nf_nut", "zzz"], INDEX, "edge-node")
    assert [problem.message for problem in problems] == ["no kernel module 'nf_nut'", "no kernel module 'zzz'"]
    assert problems[0].hint == "did you mean 'nf_nat'?"
    assert problems[0].file == "edge-node"


def test_modules_that_need_each_other_end() -> None:
    lists = {"modules.dep": b"kernel/a.ko:\nkernel/b.ko:\n", "modules.softdep": b"softdep a pre: b\nsoftdep b pre: a\n"}
    order = make_load_order(["kernel/a.ko"], make_index(lists))
    assert sorted(order) == ["kernel/a.ko", "kernel/b.ko"]
