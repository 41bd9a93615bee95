"""What Kubernetes would say of a kernel, said at build time."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import TargetError
from cumulet_builder.kubernetes import check_kernel, make_stages, needed_modules, needed_packages
from cumulet_builder.kubernetes.preflight import K3S, KUBEADM, Requirements, problems, read_config, warnings
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.recipe.load import load_recipe

IMAGES = Path(__file__).parents[2] / "recipes/images"
FILE = "linux-image-arm64: config"
BOTH = pytest.mark.parametrize("requirements", [K3S, KUBEADM], ids=["k3s", "kubeadm"])


def make_config(requirements: Requirements, **changes: str) -> str:
    """A kernel config with everything that is needed: modules where there are modules, the rest built in."""
    values = {each.name: "m" if each.module else "y" for each in (*requirements.needed, *requirements.wished)}
    values |= changes
    lines = [
        f"CONFIG_{name}={value}" if value != "n" else f"# CONFIG_{name} is not set" for name, value in values.items()
    ]
    return "\n".join(["#", "# Linux/arm64 6.12 Kernel Configuration", "#", *lines, 'CONFIG_CC_VERSION="gcc"', ""])


@BOTH
def test_a_kernel_with_everything_is_fine(requirements: Requirements) -> None:
    config, shipped = make_config(requirements), [f"kernel/net/{name}.ko.xz" for name in requirements.modules]
    assert problems(requirements, config, shipped, [], FILE) == []
    assert warnings(requirements, config, shipped, [], FILE) == []


@BOTH
def test_modules_may_also_be_built_in(requirements: Requirements) -> None:
    config = make_config(requirements, OVERLAY_FS="y", VETH="m")
    shipped = [name for name in requirements.modules if name not in ("overlay", "veth")]
    assert problems(requirements, config, shipped, ["kernel/drivers/net/veth.ko"], FILE) == []


@BOTH
def test_an_option_that_is_not_set_is_named(requirements: Requirements) -> None:
    config = make_config(requirements, MEMCG="n", VETH="n")
    found = problems(requirements, config, requirements.modules, [], FILE)
    assert [str(each) for each in found] == [
        f"{FILE}: CONFIG_MEMCG is not set\n  name another kernel package in the board",
        f"{FILE}: CONFIG_VETH is not set (network of pods)\n  name another kernel package in the board",
    ]


def test_a_module_that_is_not_shipped_is_named_with_its_setting() -> None:
    shipped = [name for name in K3S.modules if name not in ("br_netfilter", "xt_MASQUERADE")]
    found = problems(K3S, make_config(K3S), shipped, [], FILE)
    assert [(each.message, each.hint) for each in found] == [
        (
            "CONFIG_BRIDGE_NETFILTER is the module br_netfilter, which is not in the image"
            " (services between pods of one node)",
            "add br_netfilter to the board's kernel modules",
        ),
        (
            "CONFIG_NETFILTER_XT_TARGET_MASQUERADE is the module xt_MASQUERADE, which is not in the image"
            " (pods reach the world)",
            "add xt_MASQUERADE to the board's kernel modules",
        ),
    ]


def test_an_option_that_must_be_built_in_may_be_no_module() -> None:
    found = problems(K3S, make_config(K3S, SECCOMP="m"), K3S.modules, [], FILE)
    assert [each.message for each in found] == ["CONFIG_SECCOMP is the module seccomp, which is not in the image"]


def test_module_names_with_dashes_and_underscores_are_one() -> None:
    shipped = [name.replace("_", "-") for name in KUBEADM.modules]
    assert problems(KUBEADM, make_config(KUBEADM), shipped, [], FILE) == []


def test_what_is_only_wished_for_is_no_problem() -> None:
    config = make_config(K3S, PSI="n", IP_SET="n")
    assert problems(K3S, config, K3S.modules, [], FILE) == []
    assert [each.message for each in warnings(K3S, config, K3S.modules, [], FILE)] == [
        "CONFIG_PSI is not set",
        "CONFIG_IP_SET is not set (network policies)",
    ]


def test_config_is_read_as_the_kernel_writes_it() -> None:
    text = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="x=y"\n CONFIG_E=y\n'
    assert read_config(text) == {"B": "y", "C": "m", "D": '"x=y"'}


def test_build_stops_with_every_problem_and_names_the_kernel() -> None:
    recipe = load_recipe(IMAGES / "qemu-arm64-k3s.yaml")
    shipped = [name for name in K3S.modules if name != "overlay"]
    check_kernel(recipe, make_config(K3S), K3S.modules, [])
    with pytest.raises(TargetError) as caught:
        check_kernel(recipe, make_config(K3S, KEYS="n"), shipped, [])
    assert caught.value.message == (
        "linux-image-arm64: config: Kubernetes would not run on this kernel:\n"
        "  CONFIG_KEYS is not set\n"
        "  CONFIG_OVERLAY_FS is the module overlay, which is not in the image (file systems of containers)"
    )
    assert caught.value.exit_code == 4


def test_a_recipe_without_kubernetes_asks_for_nothing(tmp_path: Path) -> None:
    recipe = load_recipe(IMAGES / "base-arm64.yaml")
    check_kernel(recipe, "", [], [])
    around = Surroundings(tmp_path, lambda workshop: pytest.fail("no tools are wanted"))
    assert (needed_packages(recipe), needed_modules(recipe), make_stages(recipe, around)) == ((), (), [])


def test_modules_of_a_recipe_are_those_of_its_distribution() -> None:
    for name, requirements in (("qemu-arm64-k3s", K3S), ("qemu-arm64", KUBEADM)):
        recipe = load_recipe(IMAGES / f"{name}.yaml")
        assert needed_modules(recipe) == requirements.modules
        assert len(set(requirements.modules)) == len(requirements.modules)
        assert {"kmod", "iproute2"} <= set(needed_packages(recipe))
