"""sbom.cdx.json: the bill of materials as CycloneDX 1.6, the same bytes for the same build.

Every part has a package URL, so that vulnerability scanners find it; firmware says
in the property `cumulet:licence_class` which part of the archive it is from.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cumulet_builder.kubernetes.inventory import Component as Item
from cumulet_builder.report.facts import Deb, Facts, Firmware, LayerPackage, Wheel
from cumulet_builder.report.manifest import make_manifest

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

SPACE = uuid.UUID("5f0c7d0e-55c1-5e0c-9a53-6d6c5e1f0b3a")


def make_sbom(facts: Facts) -> str:
    """The bill of materials as JSON text. Serial number and time stamp follow from the facts alone."""
    from cyclonedx.model.bom import Bom, BomMetaData  # noqa: PLC0415 - slow to import
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.model.tool import ToolRepository  # noqa: PLC0415
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415

    image = Component(
        name=facts.image,
        type=ComponentType.OPERATING_SYSTEM,
        version=str(facts.epoch),
        bom_ref=f"image:{facts.image}",
        properties=_properties(
            architecture=facts.architecture, suite=facts.suite, lock=facts.lock_sha256, linked=" ".join(facts.linked)
        ),
    )
    tool = Component(name="cumulet", type=ComponentType.APPLICATION, version=facts.builder, bom_ref="tool:cumulet")
    parts = _unique(_components(facts))
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(SPACE, make_manifest(replace(facts, outputs=()))),
        metadata=BomMetaData(
            component=image,
            tools=ToolRepository(components=[tool]),
            timestamp=datetime.fromtimestamp(facts.epoch, UTC),
        ),
    )
    bom.register_dependency(image, parts)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _components(facts: Facts) -> Iterable[Component]:
    yield from (_deb(deb, facts.suite) for deb in facts.debs)
    yield from (_layer_package(each) for each in facts.layer_packages)
    yield from (_wheel(wheel) for wheel in facts.wheels)
    yield from (_firmware(file) for file in facts.firmware)
    yield from (_item(item) for item in facts.inventory)


def _unique(parts: Iterable[Component]) -> list[Component]:
    """One component per reference: programs share modules, and each program's stage lists its own."""
    return list({str(part.bom_ref): part for part in reversed(list(parts))}.values())


def _deb(deb: Deb, suite: str) -> Component:
    qualifiers = {"arch": deb.architecture, "distro": suite}
    if deb.source and deb.source != deb.name:
        qualifiers["upstream"] = deb.source
    return _component(
        ("deb", "debian", deb.name, deb.version),
        qualifiers,
        sha256=deb.sha256,
        licences=deb.licences,
        properties={"licence_class": deb.licence_class, "section": deb.section},
    )


def _layer_package(package: LayerPackage) -> Component:
    """A package by its recipe, as openembedded-core's own package URLs name it, and by its own name."""
    return _component(
        ("yocto", package.layer, package.recipe, package.recipe_version),
        {"arch": package.architecture, "package": package.name},
        licences=[package.licence],
        properties={"package": package.name, "package_version": package.version},
    )


def _wheel(wheel: Wheel) -> Component:
    name = wheel.name.lower().replace("_", "-")
    return _component(
        ("pypi", "", name, wheel.version),
        {"file_name": wheel.file},
        sha256=wheel.sha256,
        licences=[wheel.licence],
    )


def _firmware(file: Firmware) -> Component:
    name = file.path.removeprefix("/usr/lib/firmware/").removeprefix("/lib/firmware/")
    return _component(
        ("generic", "firmware", name, ""),
        sha256=file.sha256,
        properties={"licence_class": file.licence_class, "package": file.package},
        kind="firmware",
    )


def _item(item: Item) -> Component:
    if item.kind == "go-module":
        space, _, name = item.name.rpartition("/")
        return _component(("golang", space, name, item.version), licences=[item.licence])
    kinds = {"program": "application", "image": "container"}
    return _component(
        ("generic", "kubernetes", item.name, item.version),
        sha256=item.sha256,
        licences=[item.licence],
        kind=kinds.get(item.kind, "file"),
    )


def _component(
    words: tuple[str, str, str, str],
    qualifiers: Mapping[str, str] | None = None,
    *,
    sha256: str = "",
    licences: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
    kind: str = "library",
) -> Component:
    """A component; `words` are type, namespace, name and version of its package URL."""
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415 - slow to import
    from packageurl import PackageURL  # noqa: PLC0415

    scheme, space, name, version = words
    purl = PackageURL(scheme, space or None, name, version or None, dict(qualifiers or {}))
    return Component(
        name=f"{space}/{name}" if scheme == "golang" and space else name,
        version=version or None,
        type=ComponentType(kind),
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=_hashes(sha256),
        licenses=_licences([name for name in licences if name]),
        properties=_properties(**(properties or {})),
    )


def _hashes(sha256: str) -> list[HashType]:
    from cyclonedx.model import HashAlgorithm, HashType  # noqa: PLC0415 - slow to import

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []


def _licences(names: Sequence[str]) -> list[License]:
    """One licence may be an expression; of several the format takes only plain ones."""
    from cyclonedx.contrib.license.exceptions import FactoryException  # noqa: PLC0415 - slow to import
    from cyclonedx.contrib.license.factories import LicenseFactory  # noqa: PLC0415

    factory = LicenseFactory()
    if len(names) == 1:
        return [factory.make_from_string(names[0])]
    found: list[License] = []
    for name in names:
        try:
            found.append(factory.make_with_id(name))
        except FactoryException:
            found.append(factory.make_with_name(name))
    return found


def _properties(**values: str) -> list[Property]:
    from cyclonedx.model import Property  # noqa: PLC0415 - slow to import

    return [Property(name=f"cumulet:{name}", value=value) for name, value in values.items() if value]
