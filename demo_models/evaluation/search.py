"""Precision and recall of the Search tab's cut-off, with demo-clip on held-out scenes.

The scenes are indexed and asked for every pair of colour and shape that is in one of them. Of what
is shown, near-duplicates that are folded counted too, the share that holds the pair is the
precision; of the scenes that hold it, the share that is shown is the recall. Beside them stands the
best flat threshold on the cosine, chosen with the truth known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo_models.evaluation.held_out import evaluation_rng
from demo_models.evaluation.request import Request
from demo_models.world.scenes import Scene, render, sample_scene
from pipelines.core.settings import Settings
from pipelines.media.images import NamedImage
from pipelines.search.index_run import IndexRequest, add_files
from pipelines.search.indexes import Indexes
from pipelines.search.kinds import SearchKind, resolve_kind
from pipelines.search.query import MOST_FOUND, Query, merged, search_kind
from pipelines.serving.store import PipelineStore

SIZES = (30, 150, 600)
OWNER = "0" * 32

Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A query, the scenes that it is true of, and their cosines with it."""

    text: str
    truth: Truth
    cosines: NDArray[np.float32]
    shown: Truth


def evaluate(request: Request) -> dict[str, Any]:
    """Return the figures of indexes of several sizes."""
    figures = {}
    for size in SIZES:
        rng = evaluation_rng(request.seed, "search")
        scenes = [sample_scene(rng) for _ in range(size)]
        with TemporaryDirectory() as folder:
            figures[f"{size} scenes"] = measured(cases(Path(folder), scenes))
    return figures


def cases(folder: Path, scenes: list[Scene]) -> list[Case]:
    """Index scenes and ask for each pair of colour and shape that one of them holds."""
    files = []
    for number, scene in enumerate(scenes):
        path = folder / f"{number}.png"
        render(scene).save(path)
        files.append(NamedImage(path, path.name))
    store = PipelineStore(Settings(models="bundled", device="cpu", cache_dir=folder / "cache"))
    indexes = Indexes(store.settings.index_uri)
    kind = resolve_kind(store, "picture", "demo-clip")
    request = IndexRequest(files=files, owner=OWNER, kinds={"picture": kind}, thumbnails=False)
    for _ in add_files(store, indexes, request):
        continue
    held = [{(item.colour, item.shape) for item in scene.objects} for scene in scenes]
    pairs = sorted({pair for each in held for pair in each})
    found = []
    with store.use(kind.spec.key, kind.task) as clip:
        for pair in pairs:
            truth = np.array([pair in each for each in held])
            found.append(_case(clip, indexes, kind, " ".join(pair), truth))
    store.unload_idle(0.0)
    return found


def _case(clip: Any, indexes: Indexes, kind: SearchKind, text: str, truth: Truth) -> Case:
    query = Query(text=text, top_k=MOST_FOUND)
    search = merged([search_kind(clip, indexes, OWNER, kind, query)], query)
    vector = clip.query_vector(text, None).vector
    names = {name for one in search.found for name in (one.file.name, *one.alike)}
    table = indexes.tables(OWNER, kind.space)
    near, files = table.nearest(vector, len(truth)), table.files()
    cosines = np.zeros(len(truth), np.float32)
    for content, value in zip(near.contents, near.vectors @ vector, strict=True):
        cosines[int(files[content].name.removesuffix(".png"))] = value
    shown = np.array([f"{number}.png" in names for number in range(len(truth))])
    return Case(text, truth, cosines, shown)


def measured(made: list[Case]) -> dict[str, object]:
    """Return precision and recall, means over the queries, of what is shown and of a threshold."""
    flat = [
        (threshold, *_mean([(case.cosines >= threshold, case.truth) for case in made]))
        for threshold in np.arange(0.05, 0.5, 0.01)
    ]
    best = max(flat, key=lambda one: one[1] * one[2] / max(one[1] + one[2], 1e-9))
    precision, recall = _mean([(case.shown, case.truth) for case in made])
    return {
        "queries": len(made),
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "best_flat": {
            "threshold": round(float(best[0]), 2),
            "precision": round(best[1], 3),
            "recall": round(best[2], 3),
        },
    }


def _mean(pairs: list[tuple[Truth, Truth]]) -> tuple[float, float]:
    right = [int((shown & truth).sum()) for shown, truth in pairs]
    precision = [r / max(1, int(shown.sum())) for r, (shown, _) in zip(right, pairs, strict=True)]
    recall = [r / int(truth.sum()) for r, (_, truth) in zip(right, pairs, strict=True)]
    return float(np.mean(precision)), float(np.mean(recall))
