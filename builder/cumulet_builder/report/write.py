"""Writing every report of an image into its published folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cumulet_builder.engines.locks import AnyLock
from cumulet_builder.engines.yocto.report import collect_facts as collect_layer_facts
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.budget import check_budget
from cumulet_builder.report.collect import collect_facts, collect_outputs, make_output, measure_sizes
from cumulet_builder.report.facts import Facts
from cumulet_builder.report.manifest import make_manifest, make_sha256sums
from cumulet_builder.report.sbom import make_sbom
from cumulet_builder.report.sizes import make_sizes_text
from cumulet_builder.report.treemap import make_html

COLLECT: Mapping[str, Callable[..., Facts]] = {"debian": collect_facts, "yocto": collect_layer_facts}


def write_reports(
    recipe: Recipe,
    lock: AnyLock,
    keys: Mapping[str, str],
    stages: Mapping[str, Path],
    folder: Path,
    *,
    fragments: Iterable[Path] = (),
) -> None:
    """Write sizes.txt, sizes.html, sbom.cdx.json, manifest.json and sha256sums beside the files in `folder`.

    `keys` maps stages to their keys, `stages` to their folders; `fragments` are the
    recipe documents that were merged. Raises TargetError, before anything is
    written, if the image is over its budget.
    """
    sizes = measure_sizes(recipe, stages)
    check_budget(sizes)
    facts = COLLECT[recipe.engine](recipe, lock, keys, stages, fragments)
    (folder / "sizes.txt").write_text(make_sizes_text(sizes))
    (folder / "sizes.html").write_text(make_html(sizes))
    (folder / "sbom.cdx.json").write_text(make_sbom(facts))
    whole = replace(facts, outputs=collect_outputs(folder, stages.values()))
    (folder / "manifest.json").write_text(make_manifest(whole))
    manifest = make_output(folder / "manifest.json")
    (folder / "sha256sums").write_text(make_sha256sums([*whole.outputs, manifest]))
