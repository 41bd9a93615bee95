"""What a bring-up does about packages, from facts alone: who fetches, who hands on, who has nothing to do."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.packages import Image, Index, Package, make_key
from cumulet.packages.index import make_index_text
from cumulet.packages.signature import load_private, sign
from cumulet.site.actions import Handle, Phase, Run, describe
from cumulet.site.facts import HostFacts, SiteFacts
from cumulet.site.handover import choose_index
from cumulet.site.model import Packages, SiteDocument, parse_site
from cumulet.site.packages import (
    Holding,
    PackageFacts,
    list_wanted,
    make_early_phases,
    make_image_phases,
    make_late_phases,
)

MIB = 1 << 20


def make_package(name: str, kind: str = "files", **more: object) -> Package:
    sha = f"{name[0]}" * 64 if name[0] in "abcdef" else "0" * 64
    values = {"name": name, "version": "1", "kind": kind, "size": 5 * MIB, "sha256": sha, "chunks": [sha, sha]}
    if kind == "image":
        values["images"] = [Image(name=f"registry.example/{name}:1", digest=f"sha256:{sha}")]
    else:
        values["tree"] = sha
    return Package.model_validate(values | {"late": kind == "model"} | more)


BASE, IMAGE, MODEL = make_package("base"), make_package("app", "image"), make_package("detector", "model")
INDEX = Index(serial=3, packages=(IMAGE, BASE, MODEL))
WHOLE = Holding(
    placed=frozenset({BASE.sha256, MODEL.sha256}), images={image.name: image.digest for image in IMAGE.images}
)


def make_site(workers: int = 1, distribution: str = "kubeadm", names: str = "[]") -> SiteDocument:
    nodes = ["{name: c, address: 10.0.0.1, role: control}"]
    nodes += [f"{{name: m{n}, address: 10.0.0.{n + 1}, role: master}}" for n in (1, 2)]
    nodes += [f"{{name: w{n}, address: 10.0.0.{n + 10}, role: worker}}" for n in range(1, workers + 1)]
    text = f"version: 1\nsite: pier\ndistribution: {distribution}\nnodes: [{', '.join(nodes)}]\n"
    return parse_site(
        f"{text}packages: {{source: 'https://store.example/edge', key: key.pub, names: {names}}}\n", "site.yaml"
    )


def make_facts(
    site: SiteDocument, holdings: dict[str, Holding], *, kept: bool = True, disk: int = 1 << 34
) -> SiteFacts:
    hosts = {node.name: HostFacts(node.name, architecture="arm64", disk=disk) for node in site.nodes}
    have = {node.name: holdings.get(node.name, holdings.get("*", Holding())) for node in site.nodes}
    return SiteFacts(hosts, packages=PackageFacts(INDEX, "index", "signature", kept, have))


def bring(phases: list[Phase]) -> dict[str, Handle]:
    """Phase and host -> what is brought there."""
    return {
        f"{phase.name} {step.host}": action
        for phase in phases
        for step in phase.steps
        for action in step.actions
        if isinstance(action, Handle) and action.verb == "bring"
    }


def names(action: Handle) -> list[str]:
    return [each.name for each in action.packages]


def steps(phases: list[Phase]) -> list[str]:
    return [f"{step.name} {step.host}" for phase in phases for step in phase.steps]


def test_only_the_control_node_uses_the_uplink_and_the_others_take_from_devices() -> None:
    site = make_site(workers=9)
    found = bring(make_early_phases(site, make_facts(site, {})))
    uplink = {where: action.sources for where, action in found.items() if "https" in str(action.sources)}
    assert uplink == {"packages c": ("https://store.example/edge",)}
    assert names(found["packages c"]) == ["app", "base"]
    assert all(each.startswith("peer://") for where in found if where not in uplink for each in found[where].sources)


def test_devices_hand_on_as_a_tree_that_no_more_than_three_take_from_one() -> None:
    site = make_site(workers=40)
    found = bring(make_early_phases(site, make_facts(site, {})))
    above = {where: action.sources[0] for where, action in found.items() if action.sources and action.listen}
    assert len(above) == 42
    assert max(list(above.values()).count(each) for each in above.values()) == 3
    assert max(len(action.sources) for action in found.values()) == 4
    # If everything in between is gone there is still the control node.
    assert {action.sources[-1] for action in found.values() if action.listen and action.sources} == {
        "peer://10.0.0.1:7480"
    }


def test_models_come_last_and_images_before_anything_that_could_ask_for_them() -> None:
    site = make_site()
    facts = make_facts(site, {})
    assert names(bring(make_late_phases(site, facts))["models c"]) == ["detector"]
    assert "images.import c" in steps(make_early_phases(site, facts))
    assert make_image_phases(site, facts) == []
    k3s = make_site(distribution="k3s")
    assert "images.import c" not in steps(make_early_phases(k3s, make_facts(k3s, {})))
    assert "images.import w1" in steps(make_image_phases(k3s, make_facts(k3s, {})))


def test_a_site_that_has_everything_has_nothing_to_do() -> None:
    for distribution in ("kubeadm", "k3s"):
        site = make_site(distribution=distribution)
        facts = make_facts(site, {"*": WHOLE})
        phases = [make(site, facts) for make in (make_early_phases, make_image_phases, make_late_phases)]
        assert [steps(each) for each in phases] == [[], [], []]


def test_a_device_that_came_later_takes_from_the_control_node_without_the_uplink() -> None:
    site = make_site()
    control = Holding(frozenset({BASE.sha256, IMAGE.sha256, MODEL.sha256}), {}, WHOLE.placed, (), WHOLE.images)
    found = bring(make_early_phases(site, make_facts(site, {"*": WHOLE, "c": control, "w1": Holding()})))
    assert set(found) == {"distribute c", "distribute w1"}
    assert found["distribute w1"].sources == ("peer://10.0.0.1:7480",)


def test_a_device_keeps_no_blob_that_is_in_its_place_but_the_control_node_does() -> None:
    site = make_site()
    full = Holding(frozenset({BASE.sha256}), {}, WHOLE.placed, ("old", "old.part"), WHOLE.images)
    phases = make_early_phases(site, make_facts(site, {"*": WHOLE, "c": full, "w1": full}))
    dropped = {
        step.host: action.names
        for phase in phases
        for step in phase.steps
        for action in step.actions
        if isinstance(action, Handle)
    }
    assert dropped == {"c": ("old", "old.part"), "w1": ("old", "old.part", BASE.sha256)}


def test_a_new_index_is_kept_before_it_is_used() -> None:
    site = make_site()
    phases = make_early_phases(site, make_facts(site, {}, kept=False))
    assert steps(phases)[0] == "packages.index c"


def test_an_image_is_imported_with_the_digest_that_must_come_out_of_it() -> None:
    site = make_site()
    phases = make_early_phases(site, make_facts(site, {}))
    runs = [action for phase in phases for step in phase.steps for action in step.actions if isinstance(action, Run)]
    assert runs[0].argv[3:] == (
        "import",
        f"/var/lib/cumulet/blobs/{IMAGE.sha256}",
        f"registry.example/app:1=sha256:{IMAGE.sha256}",
    )


def test_a_disk_that_is_too_small_is_found_before_the_first_byte() -> None:
    site = make_site()
    with pytest.raises(TargetError, match="c: packages need 35 MiB, free are 30 MiB; m1: "):
        make_early_phases(site, make_facts(site, {}, disk=30 * MIB))


def test_a_package_that_is_not_there_is_named_with_those_that_are() -> None:
    site = make_site(names="[base, other]")
    with pytest.raises(TargetError, match="package other: not in the index, which has: app, base, detector"):
        list_wanted(site, INDEX, HostFacts("c", architecture="arm64"))
    only = Index(packages=(BASE.model_copy(update={"architecture": "arm64"}),))
    with pytest.raises(TargetError, match="w1: package base: not for amd64"):
        list_wanted(make_site(names="[base]"), only, HostFacts("w1", architecture="amd64"))
    assert list_wanted(make_site(), only, HostFacts("w1", architecture="amd64")) == []


def test_the_dry_run_shows_what_comes_from_where_and_no_secret() -> None:
    site = make_site()
    found = bring(make_early_phases(site, make_facts(site, {})))
    assert describe(found["packages c"]) == "bring app 1, base 1 from https://store.example/edge"
    assert describe(found["distribute w1"]) == "bring app 1, base 1 from peer://10.0.0.1:7480, hand on at 10.0.0.11"


@pytest.mark.parametrize("source", ["ftp://x", "http://store.example", "oci://x"])
def test_a_source_that_is_none_is_a_problem_with_its_place(source: str) -> None:
    text = "version: 1\nsite: a\nnodes: [{name: n, address: 10.0.0.1, role: single}]\n"
    with pytest.raises(UsageError, match=r"site.yaml:4:20"):
        parse_site(f"{text}packages: {{source: '{source}', key: k}}\n", "site.yaml")


class Publisher:
    """Somebody with a key, and the site's settings that name it."""

    def __init__(self, folder: Path, name: str = "key.pem") -> None:
        self.private = folder / name
        public = make_key(self.private)
        self.packages = Packages(source="https://store.example/edge", key=public.name)
        self.sources = {public.name: public.read_text()}

    def show(self, serial: int) -> list[str]:
        text = make_index_text(Index(serial=serial))
        pair = (text, sign(text, load_private(self.private)).encode())
        return [base64.b64encode(each).decode() for each in pair]


def test_an_index_that_is_older_than_the_one_used_last_is_refused(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    answer = {"kept": publisher.show(5), "fetched": publisher.show(4)}
    with pytest.raises(TargetError, match="shows index 4, which is older than 5"):
        choose_index(answer, publisher.packages, publisher.sources)
    for serial, kept in ((5, True), (6, False)):
        found = choose_index(answer | {"fetched": publisher.show(serial)}, publisher.packages, publisher.sources)
        assert (found[0].serial, found[3]) == (serial, kept)


def test_without_the_uplink_the_kept_index_holds_if_it_is_of_the_same_key(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    answer = {"kept": publisher.show(5), "reason": "store.example: no answer"}
    found = choose_index(answer, publisher.packages, publisher.sources)
    assert (found[0].serial, found[3]) == (5, True)
    other = Publisher(tmp_path, "other.pem")
    with pytest.raises(TargetError, match=r"cannot be reached: store\.example: no answer"):
        choose_index(answer, other.packages, other.sources)


def test_an_index_of_somebody_else_is_refused_before_it_is_read(tmp_path: Path) -> None:
    answer = {"fetched": Publisher(tmp_path, "other.pem").show(9)}
    publisher = Publisher(tmp_path)
    with pytest.raises(TargetError, match="not signed by the key of this site"):
        choose_index(answer, publisher.packages, publisher.sources)
