"""What the features that keep a device in touch put into an image: services that wait for a document, and wheels."""

from __future__ import annotations

import configparser
import shlex
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cumulet.central.agent.__main__ import VERBS
from cumulet.spool.__main__ import make_parser
from cumulet_builder.engines.debian.resolve import SDK_WHEELS, find_pins
from cumulet_builder.recipe.load import find_recipe, load_recipe
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.rootfs import make_files_tree, make_settings_tree
from cumulet_builder.tree import merge

DATA = Path(__file__).with_name("test_features_data")
SERVICES = ("agent", "spool", "uplink")
UNITS = "/usr/lib/systemd/system"


def load(*features: str, image: str = "base-arm64") -> Recipe:
    return load_recipe(find_recipe(image), [f"features+={name}" for name in features])


def test_the_services_of_a_device_that_stays_in_touch() -> None:
    recipe = load(*SERVICES)
    tree = merge([make_settings_tree(recipe, "build"), make_files_tree(recipe)])
    lines = []
    for path, node in tree.walk():
        if any(f"cumulet-{name}." in path for name in SERVICES):
            target = f" -> {node.target}" if node.target else ""
            lines += [f"{node.mode:04o} {path}{target}", *tree.read(path).decode().splitlines(), ""]
    assert "\n".join(lines) == (DATA / "services.txt").read_text()


def read_unit(name: str) -> configparser.ConfigParser:
    recipe = load(name)
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read_string(make_files_tree(recipe).read(f"{UNITS}/cumulet-{name}.service").decode())
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_off_until_there_is_its_document(name: str) -> None:
    unit = read_unit(name)
    assert unit["Unit"]["ConditionPathExists"] == f"/etc/cumulet/{name}.yaml"
    assert f"cumulet-{name}.service" in load(name).enable
    plain = load()
    assert not [file.path for file in plain.files if "cumulet-" in file.path]
    assert not plain.sdk


def test_the_words_of_the_services_are_those_that_the_programs_know() -> None:
    words = {name: shlex.split(read_unit(name)["Service"]["ExecStart"]) for name in SERVICES}
    assert all(each[:2] == ["/usr/bin/python3", "-m"] for each in words.values())
    assert words["agent"][2:4] == ["cumulet.central.agent", "run"]
    assert "run" in VERBS
    given = make_parser().parse_args(words["spool"][3:])
    assert (given.verb, given.file) == ("run", Path("/etc/cumulet/spool.yaml"))
    assert words["uplink"][2:] == ["cumulet.uplink", "run"]


def find_needed(names: Iterable[str]) -> set[str]:
    """Packages and all that they need, by what is installed here."""
    found: set[str] = set()
    todo = [(canonicalize_name(name), "") for name in names]
    done: set[tuple[str, str]] = set()
    while todo:
        one = todo.pop()
        if one in done:
            continue
        done.add(one)
        name, extra = one
        found.add(name)
        for text in metadata.distribution(name).requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), each) for each in ("", *sorted(need.extras))]
    return found


@pytest.mark.parametrize(
    ("feature", "wanted"),
    [("spool", ["aiohttp"]), ("traces", ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"])],
)
@pytest.mark.parametrize("image", ["base-arm64", "base-amd64"])
def test_a_feature_has_all_wheels_that_its_program_needs(feature: str, wanted: list[str], image: str) -> None:
    recipe = load(feature, image=image)
    assert set(recipe.pinned_wheels) == find_needed(wanted) - find_needed(SDK_WHEELS)
    assert set(recipe.pinned_wheels) <= {pin.name for pin in find_pins(recipe)}
