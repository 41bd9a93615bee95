"""The worked examples of docs/examples: members together make what one would have made, to the last bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cumulet.supercontainer.inside.merges import run_merge
from cumulet.supercontainer.inside.spool import Offer, Spool
from cumulet.supercontainer.inside.values import encode

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def merge(folder: Path, results: list[Any]) -> Any:
    spool = Spool(folder, "job")
    for index, result in enumerate(results):
        content = encode(result)
        spool.add(Offer(index, 0, str(index), content.meta, content.size), content)
    return run_merge("concatenate", [spool.whole[index] for index in range(len(results))], spool.folder).load()


@pytest.mark.parametrize("size", [3, 5])
def test_the_matrix_of_several_members_is_that_of_one(size: int, tmp_path: Path) -> None:
    matrix = load("matrix")
    blocks = range(matrix.SIDE // matrix.BLOCK)
    count = len(blocks)
    shards = [blocks[count * index // size : count * (index + 1) // size] for index in range(size)]
    found = merge(tmp_path, [matrix.make_rows(shard) for shard in shards])
    assert np.array_equal(found, matrix.make_rows(blocks))
    assert found.tobytes() == matrix.make_rows(blocks).tobytes()


def test_the_pictures_of_a_folder_are_classified_by_several_members_as_by_one(tmp_path: Path) -> None:
    classify = load("classify")
    load("make_model").main(tmp_path)
    paths = sorted((tmp_path / "pictures").glob("*.npy"))
    whole = classify.classify(paths, tmp_path / "model.onnx")
    shards = [paths[60 * index // 3 : 60 * (index + 1) // 3] for index in range(3)]
    found = merge(tmp_path, [classify.classify(shard, tmp_path / "model.onnx") for shard in shards])
    assert found == whole
    # The kind is the last letter of the name.
    assert sum(int(name[-5]) == kind for name, kind in found) >= 57


def test_points_are_counted_by_workers_as_by_one(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster  # slow to import

    points = load("points")
    hits = sum(map(points.count_hits, range(points.PIECES)))
    with LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
        found = points.count_all(client)
    assert (found["hits"], found["points"]) == (hits, points.PIECES * points.POINTS)
    # Four times the part that hits is nearly pi.
    assert abs(4 * hits / found["points"] - np.pi) < 0.01
