"""Measure a demo model: `python -m demo_models.evaluate MODEL [KIND ...] [--via app]`.

Without a kind everything is measured that the model, or the app, can be asked. Figures are written
to a report beside the checkpoint. `--via app` asks an app that is started, or the one at `--url`,
through its public endpoints.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_models.evaluation import (
    blip2,
    blip2_questions,
    clip,
    clip_questions,
    localisation,
    moments,
    search,
    verdict,
    viclip,
    video_verdict,
    videochat,
    videochat_questions,
)
from demo_models.evaluation.app_client import running_app
from demo_models.evaluation.request import (
    TEST_SEED,
    Request,
    read_json,
    weights_hash,
    write_json,
)
from pipelines.weights.locate import BUNDLE


@dataclass(frozen=True)
class Kind:
    """One measurement of a model.

    `report` is the file beside the checkpoint, "" for none. `local` names the part of the report
    for the model in this process where an app can be asked too. `gates` are percentages that a
    shipped checkpoint must reach.
    """

    measure: Callable[[Request], dict[str, Any]]
    report: str
    num: int
    seed: int = TEST_SEED
    local: str = ""
    gates: dict[str, float] = field(default_factory=dict)


KINDS: dict[str, dict[str, Kind]] = {
    "demo-clip": {
        "answers": Kind(clip.evaluate, "eval.json", 600, local="transformers",
                        gates=clip_questions.GATES_PERCENT),
        "verdict": Kind(verdict.evaluate, "verdict.json", 2400),
        "localisation": Kind(localisation.evaluate, "where.json", 500, seed=12),
        "search": Kind(search.evaluate, "", 0, seed=7),
    },
    "demo-blip2": {
        "answers": Kind(blip2.evaluate, "eval.json", 600, local="transformers",
                        gates=blip2_questions.GATES_PERCENT),
    },
    "demo-viclip": {
        "answers": Kind(viclip.evaluate, "eval.json", 500, local="pipeline",
                        gates=viclip.GATES_PERCENT),
        "verdict": Kind(video_verdict.evaluate, "verdict.json", 2400),
        "moments": Kind(moments.evaluate, "moments.json", 200, local="pipeline"),
    },
    "demo-videochat": {
        "answers": Kind(videochat.evaluate, "eval.json", 510, local="package",
                        gates=videochat_questions.GATES_PERCENT),
    },
}  # fmt: skip


def write_report(model: str, name: str, request: Request, figures: dict[str, Any]) -> None:
    """Write figures beside the checkpoint; those of other weights are dropped."""
    kind, folder = KINDS[model][name], request.checkpoint
    suffix = "" if name == "answers" else f" {name}"
    head: dict[str, Any] = {
        "script": f"python -m demo_models.evaluate {model}{suffix}",
        "weights_sha256": weights_hash(folder),
    }
    if kind.gates:
        card = read_json(folder / "demo.json")
        head |= {"checkpoint_seed": card["seed"], "checkpoint_steps": card["steps"]}
        head["gates_percent"] = kind.gates
    if not kind.local:
        write_json(folder / kind.report, {**head, **figures})
        return
    known = read_json(folder / kind.report)
    if any(known.get(key) != value for key, value in head.items()):
        known = {}
    part = {"seed": request.seed, "num": request.num, **figures}
    write_json(folder / kind.report, {**known, **head, "app" if request.url else kind.local: part})


def print_figures(figures: dict[str, Any], gates: dict[str, float]) -> None:
    """Print shares of right answers as a table, anything else as JSON."""
    rest = dict(figures)
    for kind, figure in rest.pop("accuracy", {}).items():
        chance = figure.get("chance_percent", figure.get("most_frequent_answer_percent", ""))
        row = (f"{figure['percent']:6.2f}", f"{figure['n']:6}", f"{chance:>6}", gates.get(kind, ""))
        print(f"{kind:36}", *row)
    print(json.dumps(rest, indent=1))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=KINDS)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="answers, verdict, ...")
    parser.add_argument("--via", choices=("local", "app"), default="local")
    parser.add_argument("--url", default="", help="of a running app; else one is started")
    parser.add_argument("--checkpoint", type=Path, help="folder in place of the bundled one")
    parser.add_argument("--num", type=int, help="cases of each main kind")
    parser.add_argument("--more", type=int, default=300, help="of each other kind of dialogue")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, default=2, help="threads that ask an app")
    parser.add_argument("--wrong", type=Path, help="file for the wrong answers, to read")
    chosen = parser.parse_args(arguments)
    kinds, via_app = KINDS[chosen.model], chosen.via == "app"
    names = chosen.kinds or [name for name in kinds if kinds[name].local or not via_app]
    for name in names:
        if name not in kinds or (via_app and not kinds[name].local):
            parser.error(f"{chosen.model} has no kind {name!r} via {chosen.via}")
    if via_app:
        with running_app(chosen.url) as url:
            _measure(chosen, names, url)
    else:
        _measure(chosen, names, "")


def _measure(chosen: argparse.Namespace, names: list[str], url: str) -> None:
    for name in names:
        kind = KINDS[chosen.model][name]
        request = Request(
            checkpoint=chosen.checkpoint or BUNDLE / chosen.model,
            num=kind.num if chosen.num is None else chosen.num,
            seed=kind.seed if chosen.seed is None else chosen.seed,
            more=chosen.more,
            url=url,
            workers=chosen.workers if url else 1,
        )
        figures = kind.measure(request)
        if kind.report:
            write_report(chosen.model, name, request, figures)
        if chosen.wrong:
            chosen.wrong.write_text("\n".join(request.wrong) + "\n", encoding="utf-8")
        print_figures(figures, kind.gates)


if __name__ == "__main__":
    main(sys.argv[1:])
