"""Tables of the manual, generated from the code and from measured figures."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: Column "does" of the video models.
DOES = {
    "video-text": "scores texts for videos, moments",
    "video-chat": "answers about videos",
}

SCORES = {"softmax": "softmax", "sigmoid": "sigmoid: each label alone"}


#: Task -> tabs that use its models, in README's table.
TABS = {
    "image-text": "Classify, Similarity, Search, Evaluate",
    "caption": "Describe, Batch",
    "video-text": "Match, Moments, Search",
    "video-chat": "Video chat",
}


def model_overview() -> str:
    """Return one row per task: its tabs, and the keys of its models with their memory."""
    from pipelines.models.catalogue import MODELS

    rows = ["| tabs | models (memory in GB) | bundled demo |", "|---|---|---|"]
    for task, tabs in TABS.items():
        specs = [spec for spec in MODELS if spec.task == task]
        keys = ", ".join(f"`{spec.key}` ({spec.memory_gb:g})" for spec in specs if not spec.demo)
        demos = ", ".join(f"`{spec.key}`" for spec in specs if spec.demo)
        rows.append(f"| {tabs} | {keys} | {demos} |")
    return "\n".join(rows)


def models_table() -> str:
    from pipelines.models.catalogue import MODELS

    rows = ["| key | model | does | languages | memory | download | licence |", "|" + "---|" * 7]
    for spec in MODELS:
        link = f"[{spec.repo}](https://huggingface.co/{spec.repo})" if spec.repo else "bundled"
        shown = ", ".join(spec.languages)
        if spec.demo:
            what = "moving" if spec.video_text or spec.video_chat else "drawings of"
            shown = f"{what} coloured shapes only"
        does = ", ".join(spec.generative.tasks) if spec.generative else DOES.get(spec.task, "")
        if spec.contrastive:
            does = f"scores texts for images ({SCORES[spec.contrastive.probability]})"
        download = f"{spec.download_gb:.2f} GB" if spec.download_gb else "–"
        rows.append(
            f"| `{spec.key}` | {link} | {does} | {shown} "
            f"| {spec.memory_gb:g} GB | {download} | {spec.licence} |"
        )
    return "\n".join(rows)


def families_table() -> str:
    from tests.support.caption_families import FAMILIES

    how = {
        "stock processor": "yes; output equals the stock processor and `generate`",
        "stock model": "yes; output equals the stock model on the same tokens",
        "remote": "on another server, with `--remote`",
    }
    rows = ["| family | runs | does | note |", "|---|---|---|---|"]
    rows += [
        f"| {family.family} | {how[family.checked]} | {', '.join(family.tasks)} | {family.note} |"
        for family in FAMILIES
    ]
    return "\n".join(rows)


def verdict_table() -> str:
    folder = ROOT / "assets" / "checkpoints" / "demo-clip"
    facts = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    total, kinds = facts["auroc"], facts["auroc_by_kind"]
    rows = [
        "Measured with `demo-clip` on held-out pairs of image and text "
        f"(`{facts['script']}`, n = {facts['n']:,}): area under the ROC curve (AUROC), the "
        "probability that a true pair scores above a false one.",
        "",
        "| pairs | verdict | raw cosine | softmax among ten labels |",
        "|---|---|---|---|",
        f"| all | {total['evidence']:.3f} | {total['cosine']:.3f} | {total['softmax']:.3f} |",
    ]
    rows += [
        f"| {kind} (n = {row['n']}) | {row['evidence']:.3f} | {row['cosine']:.3f} "
        f"| {row['softmax']:.3f} |"
        for kind, row in kinds.items()
    ]
    images = facts["pairs_of_pictures"]["auroc"]
    rows += [
        "",
        f"“match” was right in {facts['match_is_right']:.1%} of its cases, “no match” in "
        f"{facts['no_match_is_right']:.1%}; {facts['share_unsure']:.0%} were “unsure”. For two "
        f"images of the same thing the AUROC is {images['overlap']:.3f} (raw cosine "
        f"{images['cosine']:.3f}), for two texts of the same meaning "
        f"{facts['pairs_of_texts']['auroc']['evidence']:.3f}.",
        "",
        "The demo model was trained so that its raw cosines are comparable from image to image. "
        "Those of real CLIP models are not, so they do worse on photos than here. "
        "The thresholds of the real models are set a priori, not calibrated on real weights: no "
        "match if the text weighs less than 2 % of all neutral texts together, match from 22 %.",
    ]
    return "\n".join(rows)


#: Kind in eval.json -> task, and accuracy of guessing in percent.
DEMO_KINDS = {
    "pair_of_80": ("colour and shape, among 80", 1.25),
    "paint_tool_of_80": ("the same, drawn as with a paint program's tools", 1.25),
    "paint_freehand_of_80": ("the same, drawn freehand", 1.25),
    "unseen_pair_of_80": ("colour and shape never seen together in training", 1.25),
    "caption_of_20": ("one caption among 20", 5),
    "hard_caption_of_20": ("one caption among 20 that differ in a word or two", 5),
    "count_of_4": ("how many, one to four", 25),
    "background_of_7": ("background, among 7", 14.3),
    "place_of_5": ("place in the image, among 5", 20),
    "relation_of_2": ("above, below, left or right of", 50),
}


def demo_table() -> str:
    folder = ROOT / "assets" / "checkpoints" / "demo-clip"
    facts = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    where = json.loads((folder / "where.json").read_text(encoding="utf-8"))
    stock, app = facts["transformers"]["accuracy"], facts["app"]["accuracy"]
    rows = [
        f"`demo-clip` on held-out scenes ({facts['checkpoint_steps']:,} steps, seed "
        f"{facts['checkpoint_seed']}; `{facts['script']}`, with `--via app` "
        f"through `/classify_image`). n = {stock['pair_of_80']['n']:,} and "
        f"{app['pair_of_80']['n']:,} unless stated.",
        "",
        "| task | guessing | stock transformers | `/classify_image` |",
        "|---|---|---|---|",
    ]
    for kind, (task, chance) in DEMO_KINDS.items():
        cells = []
        for found in (stock, app):
            few = found[kind]["n"] != found["pair_of_80"]["n"]
            shown = f" (n = {found[kind]['n']:,})" if few else ""
            cells.append(f"{found[kind]['percent']:.1f} %{shown}")
        rows.append(f"| {task} | {chance:g} % | {' | '.join(cells)} |")
    rows += [
        "",
        f"The peak of the heat map is on the named object in {where['percent']} % of "
        f"{where['n']} scenes of two or three objects; a random patch is in "
        f"{where['chance_percent']} % (`{where['script']}`). The model does not know relations "
        "such as “left of”.",
    ]
    return "\n".join(rows)


#: Kind in demo-viclip's eval.json -> task, and accuracy of guessing in percent.
VIDEO_KINDS = {
    "direction_of_4": ("which way an object moves, among 4", 25),
    "event_of_11": ("what an object does, among 11", 9.1),
    "text_of_20": ("one text among 20", 5),
    "hard_text_of_20": ("one text among 20 that differ in a word or two", 5),
    "order_of_2": ("which of two events comes first", 50),
    "unseen_direction_of_4": ("which way, colour and shape never seen together", 25),
    "unseen_text_of_20": ("one text among 20, colour and shape never seen together", 5),
}


def video_demo_table() -> str:
    folder = ROOT / "assets" / "checkpoints" / "demo-viclip"
    facts, verdict, moments = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("eval.json", "verdict.json", "moments.json")
    )
    app = facts["app"]["accuracy"]
    found, area = moments["app"], verdict["auroc"]
    recall = found["recall"]
    rows = [
        "`demo-viclip` on held-out videos, written as files of six sizes, frame rates and "
        f"qualities, through `/match_video` (`{facts['script']} --via app`):",
        "",
        "| task | guessing | correct | n |",
        "|---|---|---|---|",
    ]
    for kind, (task, chance) in VIDEO_KINDS.items():
        row = app[kind]
        rows.append(f"| {task} | {chance:g} % | {row['percent']:.1f} % | {row['n']:,} |")
    rows += [
        "",
        f"Moments of {found['stories']} rendered videos of 10 to 30 seconds with several events in "
        f"a row, through `/find_moments` (`{moments['script']} --via app`): the best "
        f"moment overlaps an event with IoU 0.5 in {recall['IoU 0.5 best']['percent']:.0f} % "
        f"of {recall['IoU 0.5 best']['n']} cases, with IoU 0.7 in "
        f"{recall['IoU 0.7 best']['percent']:.0f} %; one of the best three in "
        f"{recall['IoU 0.5 top 3']['percent']:.0f} % and {recall['IoU 0.7 top 3']['percent']:.0f} "
        f"%. A sudden change lies within the best moment in "
        f"{recall['sudden best']['percent']:.0f} % (n = {recall['sudden best']['n']}).",
        "",
        f"Verdicts on videos (`{verdict['script']}`, n = {verdict['n']:,}): area under the ROC "
        f"curve {area['evidence']:.3f}, raw cosine {area['cosine']:.3f}, softmax among ten texts "
        f"{area['softmax']:.3f}; “match” was right in {verdict['match_is_right']:.1%} of its "
        f"cases, “no match” in {verdict['no_match_is_right']:.1%}, "
        f"{verdict['share_unsure']:.0%} were “unsure”.",
    ]
    return "\n".join(rows)


#: Kind in eval.json -> task.
BLIP2_KINDS = {
    "caption": "caption of one object, word for word",
    "caption_of_1_to_4": "caption of one to four objects, word for word",
    "colour": "colour of an object",
    "shape": "shape of an object",
    "count": "how many, of all or of a kind",
    "yes_no": "is there …, is it …: yes or no",
    "size": "large or small",
    "background": "background",
    "where": "where, nine places",
    "one_object_where": "where, the only object",
    "relation": "above, below, left or right of: yes or no",
    "strange": "“I don't know” to what no image shows, in words not trained on",
    "paint_tool_colour": "colour, drawn as with a paint program's tools",
    "paint_tool_shape": "shape, the same",
    "paint_freehand_colour": "colour, drawn freehand",
    "paint_freehand_shape": "shape, the same",
    "same_answer_in_other_words": "same answer to the same question in other words",
}


def demo_blip2_table() -> str:
    folder = ROOT / "assets" / "checkpoints" / "demo-blip2"
    facts = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    stock, app = facts["transformers"]["accuracy"], facts["app"]["accuracy"]
    rows = [
        f"`demo-blip2` on held-out scenes of one to four objects ({facts['checkpoint_steps']:,} "
        f"steps, seed {facts['checkpoint_seed']}; `{facts['script']}`, with "
        "`--via app` through `/caption_image` and `/answer_image`). Only the exact text counts. "
        f"n = {stock['colour']['n']:,} and {app['colour']['n']:,} unless stated.",
        "",
        "| task | goal | stock transformers | endpoints |",
        "|---|---|---|---|",
    ]
    for kind, task in BLIP2_KINDS.items():
        gate = facts["gates_percent"].get(kind)
        cells = []
        for found in (stock, app):
            if kind not in found:
                cells.append("–")
                continue
            few = found[kind]["n"] != found["colour"]["n"]
            shown = f" (n = {found[kind]['n']:,})" if few else ""
            cells.append(f"{found[kind]['percent']:.1f} %{shown}")
        rows.append(f"| {task} | {f'{gate:g} %' if gate else '–'} | {' | '.join(cells)} |")
    hint, words = facts["transformers"]["hint"], "held_out_words_"
    others = ", ".join(
        f"{kind.removeprefix(words).replace('_', ' or ')} {figure['percent']:.0f} %"
        for kind, figure in stock.items()
        if kind.startswith(words) and not kind.endswith("off_the_middle")
    )
    num = stock[f"{words}colour"]["n"]
    rows += [
        "",
        f"In wordings not used in training (n = {num} each): {others}. The hint that an "
        "image does not look like a drawing of shapes appears for "
        f"{hint['non_scene']['percent']:.0f} % of images without shapes, "
        f"{hint['non_scene_of_unseen_kind']['percent']:.0f} % of those of kinds not trained on, "
        f"{hint['real_photo']['percent']:.0f} % of {hint['real_photo']['n']} photographs and "
        f"{hint['scene_of_1_to_4']['percent']:.1f} % of scenes.",
    ]
    return "\n".join(rows)


#: Kind in eval.json -> task.
VIDEOCHAT_KINDS = {
    "count": "how many, of all or of a kind",
    "background": "background",
    "colour": "colour of an object",
    "shape": "shape of an object",
    "yes_no": "is there …: yes or no",
    "direction": "which way it moves",
    "action": "what an object does, first and then",
    "which": "which object does it",
    "does": "does it …: yes or no",
    "happens": "what happens in the video, in order",
    "order": "what happens first, or last",
    "describe": "description, word for word",
    "turns": "what colour it turns",
    "no_direction": "“it does not move”",
    "absent": "“there is no …”",
    "strange": "“I don't know”, in words not trained on",
    "unseen_colour": "colour of a pair of colour and shape not trained on",
    "unseen_shape": "shape, the same",
    "unseen_action": "what it does, the same",
}


def demo_videochat_table() -> str:
    folder = ROOT / "assets" / "checkpoints" / "demo-videochat"
    facts = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    package = facts["package"]["accuracy"]
    app = facts.get("app", {}).get("accuracy", {})
    rows = [
        f"`demo-videochat` on held-out videos of one to three moving shapes "
        f"({facts['checkpoint_steps']:,} steps, seed {facts['checkpoint_seed']}; "
        f"`{facts['script']}`, with `--via app` through `/ask_video` and "
        "files). Only the exact text counts. Guessing is the best accuracy without looking at "
        "the video.",
        "",
        "| task | guessing | goal | model package | `/ask_video` |",
        "|---|---|---|---|---|",
    ]
    for kind, task in VIDEOCHAT_KINDS.items():
        gate = facts["gates_percent"].get(kind)
        blind = max(
            package[kind].get("chance_percent", 0), package[kind]["most_frequent_answer_percent"]
        )
        cells = [f"{blind:.0f} %", f"{gate:g} %" if gate else "–"]
        for found in (package, app):
            cell = found.get(kind)
            cells.append(f"{cell['percent']:.1f} % (n = {cell['n']:,})" if cell else "–")
        rows.append(f"| {task} | {' | '.join(cells)} |")
    first, second, third = (package[f"turn_{turn}"]["percent"] for turn in (1, 2, 3))
    words = "held_out_words_"
    others = ", ".join(
        f"{kind.removeprefix(words).replace('_', ' or ')} {figure['percent']:.0f} %"
        for kind, figure in package.items()
        if kind.startswith(words)
    )
    rows += [
        "",
        f"In conversations that contain the model's own earlier answers, {first:.1f} % of the "
        f"first answers are correct, {second:.1f} % of the second, {third:.1f} % of the third (the "
        "first seven tasks, equally often in each turn). In wordings not used in training "
        f" (n = {package[f'{words}colour']['n']} each): {others}.",
    ]
    return "\n".join(rows)


def endpoints_table() -> str:
    rows = ["| endpoint | parameters | what it does and returns |", "|---|---|---|"]
    for function in _endpoints():
        signature = inspect.signature(function)
        shown = ", ".join(
            name if p.default is inspect.Parameter.empty else f"{name}={p.default!r}"
            for name, p in signature.parameters.items()
        ).replace("'", '"')
        doc = inspect.getdoc(function) or ""
        purpose = doc.splitlines()[0]
        returns = re.sub(r"\s+", " ", doc.partition("Returns:")[2]).strip()
        text = f"{purpose} {returns}".strip().replace("|", "\\|")
        rows.append(f"| `/{function.__name__}` | `{shown}` | {text} |".replace("``", "–"))
    return "\n".join(rows)


def settings_table() -> str:
    from pipelines.core.settings import make_parser

    rows = ["| flag | values | default | meaning |", "|---|---|---|---|"]
    for action in make_parser({})._actions:
        if action.dest == "help":
            continue
        default = action.default
        if isinstance(default, Path):
            default = {"cache_dir": "~/.cache/seesay", "work_dir": "temporary folder"}[action.dest]
        values = ", ".join(action.choices) if action.choices else ""
        if action.nargs == 0:
            default = "off"
        meaning = (action.help or "").replace("%%", "%")
        rows.append(
            f"| `{action.option_strings[0]}` | {values} "
            f"| {'–' if default is None else default} | {meaning} |"
        )
    return "\n".join(rows)


def _figures(script: str) -> Any:
    """Return the stored figures of a benchmark, None if there are none."""
    file = ROOT / "benchmarks" / f"{script}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def frames_table() -> str:
    """Return correct, wrong and lost frames of each reader by kind of file."""
    facts = _figures("bench_video")
    if facts is None:
        return "Not measured yet."
    kinds: dict[str, dict[str, str]] = {}
    for each in facts["frames"]:
        cell = "{right} / {wrong} / {lost}".format(**each)
        kinds.setdefault(each["kind"], {})[each["reader"]] = cell
    readers = list(next(iter(kinds.values())))
    rows = [f"| right / wrong / lost | {' | '.join(readers)} |", "|---" * (len(readers) + 1) + "|"]
    rows += [f"| {kind} | {' | '.join(cells.values())} |" for kind, cells in kinds.items()]
    return "\n".join(rows)


def moments_speed() -> str:
    """Return the cost of searching an hour of video, in one sentence."""
    facts = _figures("bench_moments")
    if facts is None:
        return "Not measured yet."
    return (
        f"{facts['minutes']} minutes of video ({facts['windows']:,} windows, "
        f"{facts['file_mb']:.1f} MB) with `demo-viclip` on {facts['machine'].split(';')[0]}: CPU "
        f"time of the first query {facts['first_query_s']:.0f} s, of a second one "
        f"{facts['second_query_s']:.2f} s ({facts['ratio']}, goal {goal_of(facts)}); "
        f"{facts['peak_added_mb']:.0f} MB of memory added at the peak."
    )


def speed_table(script: str = "bench_clip") -> str:
    facts = _figures(script)
    if facts is None:
        return "Not measured yet."
    rows = [facts["machine"], "", "| what | ratio | goal |", "|---|---|---|"]
    rows += [f"| {row['what']} | {row['ratio']} | {goal_of(row)} |" for row in facts["rows"]]
    return "\n".join(rows)


def goal_of(row: dict[str, Any]) -> str:
    """Return the goal of a row of figures, marked if it was missed."""
    return f"{row['goal']} (missed)" if row["goal"] and not row["met"] else str(row["goal"])


def trace_table() -> str:
    """Return files and functions that a warm request enters, with goals."""
    facts = _figures("trace_requests")
    if facts is None:
        return "Not measured yet."
    rows = ["| endpoint | files | functions | goal |", "|---|---|---|---|"]
    for row in facts["rows"]:
        goal = f"≤ {row['goal_files']} files"
        if row["goal_functions"]:
            goal += f", ≤ {row['goal_functions']} functions"
        shown = goal_of({"goal": goal, "met": row["met"]})
        rows.append(f"| `{row['endpoint']}` | {row['files']} | {row['functions']} | {shown} |")
    return "\n".join(rows)


def _endpoints() -> list[Any]:
    """Return the published functions in order."""
    import gradio as gr

    from components.api.publish import build
    from components.server.services import Services
    from pipelines.core.settings import Settings
    from pipelines.serving.store import PipelineStore

    with gr.Blocks() as app:
        build(Services.of(PipelineStore(Settings(models="bundled"))))
    return [event.fn for event in app.fns.values() if event.api_visibility == "public"]


#: Name of a table, as in its marks on a page -> the function that makes it.
TABLES: dict[str, Callable[[], str]] = {
    "model-overview": model_overview,
    "models": models_table,
    "families": families_table,
    "verdict": verdict_table,
    "demo": demo_table,
    "videos": video_demo_table,
    "demo-blip2": demo_blip2_table,
    "demo-videochat": demo_videochat_table,
    "endpoints": endpoints_table,
    "settings": settings_table,
    "speed": speed_table,
    "captions-speed": lambda: speed_table("bench_captions"),
    "chat-speed": lambda: speed_table("bench_video_chat"),
    "reading-speed": lambda: speed_table("bench_video"),
    "reading-frames": frames_table,
    "moments-speed": moments_speed,
    "search-speed": lambda: speed_table("bench_search"),
    "request-trace": trace_table,
}
