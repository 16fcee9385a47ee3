"""What each visitor of `bench_visitors` asks: media of their own, and every endpoint of the app."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demo_models.language.motion_statements import view_of
from demo_models.language.motion_texts import true_claim, word_claim
from demo_models.world.motion_sampling import MotionOptions, sample_motion, sample_story
from demo_models.world.scenes import Scene, SceneOptions, render, sample_scene
from demo_models.world.video_files import FileFormat, write_motion
from demo_models.world.vocabulary import ALL_PAIRS

#: Answers to one request may differ by so much in a number.
TOLERANCE = 1e-4

#: Pictures that a visitor sends to be captioned together.
NUM_PICTURES = 5

#: Seconds after which an answer counts as not coming.
HANG_S = 300.0

PICTURE_SIZES = (96, 384)

Ask = Callable[[Any, int], Any]


@dataclass(frozen=True)
class Media:
    """The files of one visitor, that no other has.

    Attributes:
        scenes: what is drawn on the pictures.
        pictures: their files.
        clip: a video as long as the model looks at once, with a true text.
        story: a video of several events, with the text of one.
        classes: the pictures in a zip, in a folder each, named after what they show.
    """

    scenes: list[Scene]
    pictures: list[Path]
    clip: tuple[Path, str]
    story: tuple[Path, str]
    classes: Path


def draw_media(visitor: int, folder: Path) -> Media:
    """Draw the files of visitor number `visitor` into `folder`."""
    rng = np.random.default_rng([2026, visitor])
    options = SceneOptions(pairs=ALL_PAIRS, distinct=True)
    scenes = [sample_scene(rng, options) for _ in range(NUM_PICTURES)]
    pictures = []
    for number, scene in enumerate(scenes):
        path = folder / f"visitor-{visitor}-{number}.png"
        render(scene, int(rng.integers(*PICTURE_SIZES))).save(path)
        pictures.append(path)
    clip, story = folder / f"clip-{visitor}.mp4", folder / f"story-{visitor}.mp4"
    motion = sample_motion(rng, MotionOptions(event_shares=(0, 1, 0)))
    write_motion(clip, motion, FileFormat(160, 120, 12, 3.0, 26))
    texts = [word_claim(true_claim(rng, view_of(motion), "action")).text]
    motion = sample_story(rng, 3)
    write_motion(story, motion, FileFormat(160, 120, 8, 4.0 * motion.duration, 26))
    texts.append(word_claim(true_claim(rng, view_of(motion), "action")).text)
    classes = folder / f"classes-{visitor}.zip"
    with zipfile.ZipFile(classes, "w") as made:
        for number, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
            item = scene.objects[0]
            made.write(picture, f"{item.colour} {item.shape} {number}/{picture.name}")
    return Media(scenes, pictures, (clip, texts[0]), (story, texts[1]), classes)


def endpoints_of(client: Any) -> set[str]:
    """Return the names of the app's endpoints."""
    return set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])


def requests_of(visitor: int, media: Media, offered: set[str]) -> dict[str, Ask]:
    """Return the requests of a visitor by their names; each asks a client, given its round.

    The round is sent where the app would else give the results of an earlier one from its
    ledger; it changes no answer.
    """
    names = [f"{item.colour} {item.shape}" for item in media.scenes[0].objects]
    texts = [f"a {name}" for name in names] + [f"the {visitor}th visitor", "a dog on a sofa"]
    made: dict[str, Ask] = {
        "/classify_image": partial(_classify, media.pictures[0], "\n".join(texts)),
        "/rank_similarity": partial(_rank, media.pictures, texts),
        "/embed_texts": partial(_embed_texts, "\n".join(texts)),
        "/embed_images": partial(_embed_images, media.pictures[:2]),
        "/caption_image": partial(_caption, media.pictures[1]),
        "/answer_image": partial(_answer, media.pictures[2], media.scenes[2]),
        "/chat_image": partial(_chat, media.pictures[3], media.scenes[3]),
        "/caption_images": partial(_caption_many, media.pictures),
        "/match_video": partial(_match, *media.clip, visitor),
        "/find_moments": partial(_find, *media.story),
        "/ask_video": partial(_ask_video, media.clip[0]),
        "/evaluate_images": partial(_evaluate, media.classes),
        "/search_files": partial(_search, media, texts[0]),
    }
    return {name: ask for name, ask in made.items() if name in offered}


def _file(path: Path) -> Any:
    from gradio_client import handle_file  # type: ignore[import-untyped]

    return handle_file(path)


def _predict(client: Any, endpoint: str, **arguments: Any) -> Any:
    return client.submit(api_name=endpoint, **arguments).result(timeout=HANG_S)


def _classify(picture: Path, labels: str, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/classify_image", image=_file(picture), labels=labels)


def _rank(pictures: list[Path], texts: list[str], client: Any, turn: int) -> Any:
    del turn
    files = [_file(picture) for picture in pictures]
    return _predict(
        client, "/rank_similarity", query_text=texts[0], candidate_texts="\n".join(texts[1:]),
        candidate_images=files,
    )  # fmt: skip


def _embed_texts(texts: str, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/embed_texts", texts=texts)


def _embed_images(pictures: list[Path], client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/embed_images", images=[_file(picture) for picture in pictures])


def _caption(picture: Path, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/caption_image", image=_file(picture))


def _questions(scene: Scene) -> list[str]:
    item = scene.objects[-1]
    return [
        f"What colour is the {item.shape}?",
        f"Where is the {item.colour} {item.shape}?",
        "How many shapes are there?",
    ]


def _answer(picture: Path, scene: Scene, client: Any, turn: int) -> Any:
    del turn
    question = _questions(scene)[1]
    return _predict(client, "/answer_image", image=_file(picture), question=question)


def _chat(picture: Path, scene: Scene, client: Any, turn: int) -> Any:
    del turn
    history: list[dict[str, Any]] = []
    for message in _questions(scene):
        sent = {"message": message, "history": history}
        _, history = _predict(client, "/chat_image", image=_file(picture), **sent)
    return history


def _caption_many(pictures: list[Path], client: Any, turn: int) -> Any:
    files = [_file(picture) for picture in pictures]
    rows, archive = _predict(client, "/caption_images", files=files, seed=turn)
    with zipfile.ZipFile(archive) as made:
        texts = {name: made.read(name).decode() for name in made.namelist() if ".txt" in name}
    return [rows, texts]


def _match(video: Path, text: str, visitor: int, client: Any, turn: int) -> Any:
    del turn
    texts = f"{text}\na red circle moves left\nnothing happens\nvisitor number {visitor}"
    return _predict(client, "/match_video", video=_file(video), texts=texts)


def _find(video: Path, query: str, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/find_moments", video=_file(video), query=query)


def _ask_video(video: Path, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/ask_video", video=_file(video), question="What happens?")


def _evaluate(archive: Path, client: Any, turn: int) -> Any:
    del turn
    return _predict(client, "/evaluate_images", archive=_file(archive))


def _search(media: Media, text: str, client: Any, turn: int) -> Any:
    """Make an index of one's own, search it, and delete it."""
    del turn
    files = [_file(path) for path in (*media.pictures[:3], media.clip[0])]
    key = _predict(client, "/index_files", files=files)[1]["index_key"]
    found = _predict(client, "/search_files", index_key=key, query_text=text)
    _predict(client, "/forget_files", index_key=key, everything=True)
    return found


def same(one: Any, other: Any) -> bool:
    """Say whether two answers are the same; their numbers may differ by `TOLERANCE`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=0.0, abs_tol=TOLERANCE)
    return bool(one == other)


def num_distinct(answers: list[Any]) -> int:
    """Return how many of some answers are told apart from all the others."""
    kept: list[Any] = []
    for answer in answers:
        if not any(same(answer, other) for other in kept):
            kept.append(answer)
    return len(kept)


def shuffled(requests: dict[str, Ask], visitor: int) -> Iterator[tuple[int, str, Ask]]:
    """Yield round, name and request for ever, each round in another order."""
    rng = np.random.default_rng([7, visitor])
    names, turn = list(requests), 0
    while True:
        turn += 1
        for index in rng.permutation(len(names)):
            yield turn, names[int(index)], requests[names[int(index)]]
