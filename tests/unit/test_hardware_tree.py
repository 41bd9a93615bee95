"""Device trees: what stands in a blob, what of it is on, and which devices another one cannot do without."""

from __future__ import annotations

import pytest
from device_trees import make_dtb

from cumulet.core.errors import ToolError
from cumulet_builder.hardware.devicetree import read_device_tree, words
from cumulet_builder.hardware.suppliers import find_suppliers

# A storage that gets its clock and power over two chips, one of them behind a bus that is a device too.
BOARD = {
    "/": {"compatible": ["acme,phone", "acme,chip"], "model": "Acme Phone", "interrupt-parent": 1},
    "/gic": {"compatible": "arm,gic", "phandle": 1, "#interrupt-cells": 3},
    "/soc": {"compatible": "simple-bus"},
    "/soc/clocks": {"compatible": "acme,clocks", "phandle": 2, "#clock-cells": 1, "clocks": [2, 7]},
    "/soc/i2c": {"compatible": "acme,i2c", "interrupts": [0, 1, 4]},
    "/soc/i2c/pmic": {"compatible": "acme,pmic", "vin-supply": 5},
    "/soc/i2c/pmic/regulators": {},
    "/soc/i2c/pmic/regulators/ldo1": {"phandle": 3},
    "/soc/storage": {"compatible": "acme,storage", "clocks": [2, 0, 2, 1], "vcc-supply": 3, "cd-gpios": [6, 4, 1]},
    "/soc/gpio": {"compatible": "acme,gpio", "phandle": 6, "#gpio-cells": 2},
    "/soc/camera": {"compatible": "acme,camera", "status": "disabled"},
    "/soc/camera/sensor": {"compatible": "acme,sensor"},
    "/battery": {"compatible": "acme,battery", "phandle": 5},
}


def test_nodes_and_their_properties_are_read_as_they_stand() -> None:
    tree = read_device_tree(make_dtb(BOARD), "acme.dtb")
    assert list(tree.nodes) == list(BOARD)
    assert tree.model == "Acme Phone"
    assert tree.compatibles("/") == ("acme,phone", "acme,chip")
    assert words(tree.nodes["/soc/storage"]["clocks"]) == (2, 0, 2, 1)
    assert tree.phandles() == {
        1: "/gic",
        2: "/soc/clocks",
        3: "/soc/i2c/pmic/regulators/ldo1",
        5: "/battery",
        6: "/soc/gpio",
    }


def test_what_is_off_and_all_below_it_is_no_device() -> None:
    tree = read_device_tree(make_dtb(BOARD), "acme.dtb")
    assert not tree.enabled("/soc/camera/sensor")
    assert "/soc/camera/sensor" not in dict(tree.devices())
    assert dict(tree.devices())["/battery"] == ("acme,battery",)
    assert "/" not in dict(tree.devices())


@pytest.mark.parametrize("data", [b"", b"not a tree at all, by far", make_dtb(BOARD)[:200]])
def test_what_is_no_whole_blob_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ToolError, match=r"^acme\.dtb: (not a device tree blob|a damaged device tree blob)"):
        read_device_tree(data, "acme.dtb")


def test_a_device_needs_its_buses_clocks_supplies_and_pins_and_what_those_need() -> None:
    tree = read_device_tree(make_dtb(BOARD), "acme.dtb")
    found = find_suppliers(tree, "/soc/storage")
    assert set(found) == {"/soc", "/soc/clocks", "/soc/i2c/pmic", "/soc/i2c", "/gic", "/soc/gpio", "/battery"}
    assert (found["/soc/i2c/pmic"].property, found["/soc/i2c/pmic"].user) == ("vcc-supply", "/soc/storage")
    assert (found["/soc/i2c"].property, found["/soc/i2c"].user) == ("parent", "/soc/i2c/pmic")
    assert found["/battery"].property == "vin-supply"


def test_a_supplier_that_is_off_is_none() -> None:
    board = {**BOARD, "/battery": {**BOARD["/battery"], "status": "disabled"}}
    assert "/battery" not in find_suppliers(read_device_tree(make_dtb(board), "x"), "/soc/storage")
