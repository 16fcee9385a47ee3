"""A server of chat completions that does its work, and one that goes wrong in every way."""

import asyncio
import base64
import io
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import caption_folder
from pipelines.core.errors import InputError, MediaError, PipelineError, ServerError
from pipelines.core.options import GenerationOptions
from pipelines.core.remote import Remote
from pipelines.core.settings import Settings
from pipelines.models.remote import client
from pipelines.models.remote import stream as responses
from pipelines.models.remote.stream import Chunk, parse_events
from pipelines.models.video_chat import Part
from pipelines.serving.command import DONE, FAILED
from pipelines.serving.remote_registry import MOST_VISITORS
from pipelines.serving.store import PipelineStore
from tests.conftest import draw_circle
from tests.fakes.batch_captioner import lines
from tests.fakes.chat_server import PIECES, Asked, FakeChatServer
from tests.fakes.videos import encode
from tests.support.app_process import ROOT
from tests.support.captioning import candidates

KEY = "sk-very-secret-0123456789"
TEXT = "".join(PIECES)
GREEDY = GenerationOptions(max_new_tokens=20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChatServer]:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.05)
    with FakeChatServer() as fake:
        yield fake


def store_of(server: FakeChatServer, **options: Any) -> PipelineStore:
    remote = Remote(name="fake", url=server.url, key=KEY, **options)
    return PipelineStore(Settings(models="bundled", remotes=(remote,)))


def describer(server: FakeChatServer, **options: Any) -> Any:
    with store_of(server, **options).use("fake", "caption") as pipeline:
        return pipeline


@contextmanager
def failing() -> Iterator[pytest.ExceptionInfo[ServerError]]:
    with pytest.raises(ServerError) as caught:
        yield caught
    assert "fake (127.0.0.1:" in caught.value.message
    assert KEY not in caught.value.message


def test_a_caption_streams(server: FakeChatServer, red_circle: Path) -> None:
    deltas = list(describer(server).stream_caption(red_circle, "", GREEDY))
    assert "".join(delta.text for delta in deltas) == TEXT
    assert len([delta for delta in deltas if delta.text]) == len(PIECES)
    result = deltas[-1].result
    assert (result.text, result.finish, result.model) == (TEXT, "end", "fake")
    (asked,) = server.questions
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert {name: asked.body[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "fake-vl",
        "max_tokens": 20,
        "temperature": 0.0,
    }
    assert "image" in asked.text


def test_a_picture_comes_upright_and_without_what_its_file_held(
    server: FakeChatServer, tmp_path: Path
) -> None:
    image = draw_circle(size=64)
    image.putpixel((1, 2), (9, 8, 7))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    image.save(tmp_path / "a.png", exif=exif)
    describer(server).chat(tmp_path / "a.png", "Which?", None, GREEDY)
    (url,) = server.questions[0].media
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert b"where I live" not in data
    sent = Image.open(io.BytesIO(data))
    turned = image.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(sent), np.asarray(turned))


def test_a_large_picture_is_shrunk(server: FakeChatServer, tmp_path: Path) -> None:
    Image.new("RGB", (4000, 1000), "red").save(tmp_path / "a.png")
    describer(server).chat(tmp_path / "a.png", "Which?", None, GREEDY)
    (url,) = server.questions[0].media
    data = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (1536, 384)


def test_turns(server: FakeChatServer, red_circle: Path) -> None:
    history = [
        {"role": "user", "content": "What colour?"},
        {"role": "assistant", "content": "Red.", "notes": ["x"]},
    ]
    describer(server).chat(red_circle, " And \ud800 which shape? ", history, GREEDY)
    first, answer, last = server.questions[0].body["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert first["content"][1]["text"] == "What colour?"
    assert answer == {"role": "assistant", "content": "Red."}
    assert last == {"role": "user", "content": "And \ufffd which shape?"}


def test_a_conversation_without_end_is_sent_as_far_as_there_is_room(
    server: FakeChatServer, red_circle: Path
) -> None:
    turn = [{"role": "user", "content": "a" * 9000}, {"role": "assistant", "content": "b"}]
    result = describer(server).chat(red_circle, "q" * 60_000, turn * 10, GREEDY)
    assert len(server.questions[0].body["messages"]) == 11
    assert result.context.dropped_turns == 5
    assert [note.split(":")[0] for note in result.notes] == [
        "Your text is longer than the model reads",
        "The conversation is longer than the model reads",
    ]


@pytest.mark.parametrize("fault", ["429 after 1", "503", "500", "close", "502", "whole"])
def test_what_mends_itself(server: FakeChatServer, red_circle: Path, fault: str) -> None:
    server.faults = [fault]
    result = describer(server).chat(red_circle, "Which?", None, GREEDY)
    assert (result.text, result.notes) == (TEXT, ())
    assert len(server.questions) == (1 if fault == "whole" else 2)


def test_a_wait_that_is_asked_for_is_kept(server: FakeChatServer, red_circle: Path) -> None:
    server.faults = ["429 after 1"]
    describer(server).chat(red_circle, "Which?", None, GREEDY)
    first, second = server.questions
    assert second.at - first.at >= 1.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("faults", "told", "requests"),
    [
        (["429"] * 9, "takes no more requests", 4),
        (["429 after 3600"], "Try again in 3600 s", 1),
        (["503"] * 9, "is not well (status 503)", 4),
        (["500"] * 9, "refused this request (status 500)", 4),
        (["close"] * 9, "broke off", 4),
        (["drop"], "broke off before the answer was whole", 1),
        (["garbage"], "no chat completion", 1),
        (["web page"], "no chat completion", 1),
        (["error"], "failed while it answered. It said: “the engine died”", 1),
        (["silence"], "said nothing for 0.5 s", 1),
        (["silence at once"], "said nothing for 0.5 s", 1),
        (["redirect"], "redirects requests to another address", 1),
        (["404"], "has no such model", 1),
        (["413"], "as large as this one", 1),
        (["echo"] * 9, "refused this request (status 400)", 4),
    ],
)
def test_what_does_not_mend_is_told(
    server: FakeChatServer, red_circle: Path, faults: list[str], told: str, requests: int
) -> None:
    server.faults = list(faults)
    pipeline = describer(server, timeout_s=0.5)
    with failing() as caught:
        pipeline.chat(red_circle, "Which?", None, GREEDY)
    assert told in caught.value.message
    assert len(server.questions) == requests
    assert not [one for one in server.asked if "elsewhere" in one.path]
    server.faults.clear()
    assert pipeline.chat(red_circle, "Which?", None, GREEDY).text == TEXT


def test_what_came_before_a_break_was_given(server: FakeChatServer, red_circle: Path) -> None:
    server.faults = ["drop"]
    text = ""
    with failing():
        for delta in describer(server).stream_chat(red_circle, "Which?", None, GREEDY):
            text += delta.text
    assert text == PIECES[0]


def test_a_server_that_is_not_there(red_circle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.05)
    with FakeChatServer() as server:
        pipeline = describer(server)
    with failing() as caught:
        pipeline.chat(red_circle, "Which?", None, GREEDY)
    assert "cannot be reached" in caught.value.message


def test_an_endless_answer_ends(server: FakeChatServer, red_circle: Path) -> None:
    server.faults = ["endless"]
    result = describer(server).chat(red_circle, "Which?", None, GenerationOptions(max_new_tokens=1))
    assert result.finish == "length"
    assert server.left.wait(5)


@pytest.mark.parametrize("status", [400, 422, 500])
def test_options_that_a_server_refuses_are_left_out(
    server: FakeChatServer, red_circle: Path, status: int
) -> None:
    server.refuses, server.refusal = frozenset({"stream_options"}), status
    pipeline, options = describer(server), GenerationOptions(temperature=0.7, seed=3, top_p=0.9)
    for _ in range(3):
        assert pipeline.chat(red_circle, "Which?", None, options).notes == ()
    body = server.questions[-1].body
    assert "stream_options" not in body
    assert (body["temperature"], body["seed"], body["top_p"]) == (0.7, 3, 0.9)
    # a 400 or 422 is believed at once, a 500 when it came twice
    assert len(server.questions) == (5 if status == 500 else 4)


def test_a_server_with_its_own_sampling_is_told_of(
    server: FakeChatServer, red_circle: Path
) -> None:
    server.refuses = frozenset({"stream_options", "temperature", "max_tokens"})
    result = describer(server).chat(red_circle, "Which?", None, GREEDY)
    assert result.text == TEXT
    assert "refused temperature, top_p and seed" in result.notes[0]
    assert server.questions[-1].body["max_completion_tokens"] == 20


def test_a_value_that_one_visitor_asked_for_changes_no_other_answer(
    server: FakeChatServer, red_circle: Path
) -> None:
    pipeline = describer(server)
    server.refuses = frozenset({"temperature"})
    hot = GenerationOptions(temperature=3.0, max_new_tokens=20)
    assert "refused temperature" in pipeline.chat(red_circle, "Which?", None, hot).notes[0]
    server.refuses = frozenset()
    pipeline.chat(red_circle, "Which?", None, GREEDY)
    assert server.questions[-1].body["temperature"] == 0.0


def test_an_answer_without_text_is_none(server: FakeChatServer, red_circle: Path) -> None:
    server.pieces = (" ", "\n")
    with failing() as caught:
        describer(server).chat(red_circle, "Which?", None, GREEDY)
    assert "without text" in caught.value.message


def test_a_refusal_for_another_reason_teaches_nothing(
    server: FakeChatServer, red_circle: Path
) -> None:
    pipeline = describer(server)
    server.faults = ["400"] * 4
    with failing():
        pipeline.chat(red_circle, "Which?", None, GREEDY)
    pipeline.chat(red_circle, "Which?", None, GREEDY)
    assert "stream_options" in server.questions[-1].body


@pytest.mark.parametrize("models", [[], None])
def test_no_list_of_models(
    server: FakeChatServer, red_circle: Path, models: list[str] | None
) -> None:
    server.models = models
    assert describer(server).chat(red_circle, "Which?", None, GREEDY).text == TEXT
    assert "model" not in server.questions[0].body


def test_a_model_that_is_named_is_asked_for(server: FakeChatServer, red_circle: Path) -> None:
    describer(server, model="my/model").chat(red_circle, "Which?", None, GREEDY)
    assert [one.body["model"] for one in server.asked] == ["my/model"]


def test_a_list_of_models_without_end_is_left(
    server: FakeChatServer, red_circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was once read into memory until it ended."""
    monkeypatch.setattr(responses, "MAX_BYTES", 300_000)
    server.endless_list = True
    assert describer(server).chat(red_circle, "Which?", None, GREEDY).text == TEXT
    assert server.left.wait(10)
    assert "model" not in server.questions[0].body


@pytest.mark.parametrize(
    ("fault", "told"),
    [("endless line", "no chat completion"), ("endless refusal", "refused this request")],
)
def test_a_response_without_end_is_left(
    server: FakeChatServer,
    red_circle: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    told: str,
) -> None:
    monkeypatch.setattr(responses, "MAX_BYTES", 300_000)
    server.faults = [fault] * 4
    with failing() as caught:
        describer(server).chat(red_circle, "Which?", None, GREEDY)
    assert told in caught.value.message
    assert server.left.wait(10)


def test_nothing_is_waited_for_after_the_last_event(
    server: FakeChatServer, red_circle: Path
) -> None:
    server.faults = ["silence at the end"]
    assert describer(server, timeout_s=1.0).chat(red_circle, "Which?", None, GREEDY).text == TEXT
    assert server.left.wait(5)


def test_blanks_without_end_are_an_end(
    server: FakeChatServer, red_circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was held back did not count, and was copied with each further blank."""
    monkeypatch.setattr(client, "LONGEST_ANSWER_S", 5.0)
    server.faults = ["blanks"]
    answer = describer(server).chat(red_circle, "Which?", None, GREEDY)
    assert (answer.text, answer.finish) == (PIECES[0], "length")


def test_lines_may_come_byte_by_byte() -> None:
    event = 'data: {"choices": [{"delta": {"content": "é"}}]}\n\n'.encode()

    async def parts() -> AsyncIterator[bytes]:
        for byte in event * 3:
            yield bytes([byte])

    async def parsed() -> list[Chunk]:
        return [chunk async for chunk in parse_events(parts())]

    assert [chunk.text for chunk in asyncio.run(parsed())] == ["é"] * 3


def test_stop_does_not_wait_for_a_name_server(
    red_circle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of the system that resolves a name cannot be ended; the stream ends without it."""
    asked, answers = threading.Event(), threading.Event()

    def silent(*args: Any, **options: Any) -> Any:
        asked.set()
        answers.wait(60)
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", silent)
    remote = Remote(name="fake", url="http://a-name.invalid:8000")
    store = PipelineStore(Settings(models="bundled", remotes=(remote,)))
    with store.use("fake", "caption") as pipeline:
        stream = pipeline.stream_caption(red_circle, "", GREEDY)
        while not asked.is_set():
            next(stream)
        closing = threading.Thread(target=stream.close)
        closing.start()
        closing.join(20)
        ended = not closing.is_alive()
        answers.set()
        closing.join(60)
    assert ended


def test_no_more_visitors_of_servers_than_there_are_places_for(server: FakeChatServer) -> None:
    store = store_of(server)
    (remote,) = store.settings.remotes
    with ExitStack() as visitors:
        for _ in range(MOST_VISITORS):
            visitors.enter_context(store.remotes.visitor(remote))
        with failing() as caught, store.remotes.visitor(remote):
            pass
        assert "Try again in a moment" in caught.value.message
    with store.remotes.visitor(remote):
        pass


def test_the_context_as_far_as_it_is_known(server: FakeChatServer, red_circle: Path) -> None:
    pipeline = describer(server)
    context = pipeline.chat(red_circle, "Which?", None, GREEDY).context
    assert (context.used_tokens, context.limit_tokens) == (321, 0)
    server.max_model_len = 1000
    context = describer(server).chat(red_circle, "Which?", None, GREEDY).context
    assert (context.used_tokens, context.limit_tokens) == (321, 1000)
    server.usage = False
    context = describer(server).chat(red_circle, "Which?", None, GREEDY).context
    assert (context.used_tokens, context.limit_tokens) == (0, 0)


def test_closing_a_stream_closes_the_connection(server: FakeChatServer, red_circle: Path) -> None:
    server.faults = ["silence"]
    stream = describer(server).stream_chat(red_circle, "Which?", None, GREEDY)
    while not next(stream).text:
        pass
    assert not server.left.is_set()
    stream.close()
    assert server.left.wait(5)


@pytest.mark.parametrize("fault", ["silence at once", "429 after 20"])
def test_closing_before_the_first_word(
    server: FakeChatServer, red_circle: Path, fault: str
) -> None:
    server.faults = [fault]
    stream = describer(server).stream_chat(red_circle, "Which?", None, GREEDY)
    while not server.questions:
        next(stream)
    stream.close()
    assert len(server.questions) == 1
    if "silence" in fault:
        assert server.left.wait(5)


def test_what_is_refused_before_anybody_is_asked(
    server: FakeChatServer, red_circle: Path, tmp_path: Path
) -> None:
    pipeline = describer(server)
    (tmp_path / "a.png").write_bytes(b"no picture")
    asks: list[tuple[type[PipelineError], Callable[[], Any]]] = [
        (InputError, lambda: pipeline.chat(red_circle, " ", None, GREEDY)),
        (InputError, lambda: pipeline.chat(red_circle, "a", [{"role": "king"}], GREEDY)),
        (InputError, lambda: pipeline.caption([red_circle], "", GenerationOptions(num_beams=2))),
        (InputError, lambda: candidates(pipeline, red_circle, 99)),
        (MediaError, lambda: pipeline.chat(tmp_path / "a.png", "Which?", None, GREEDY)),
    ]
    for kind, ask in asks:
        with pytest.raises(kind):
            ask()
    assert not server.asked


def test_several_captions_to_choose_from(server: FakeChatServer, red_circle: Path) -> None:
    server.pieces = lambda asked: (f"caption {asked.body['seed'] // 2}",)
    found = candidates(describer(server), red_circle, 5, GREEDY)
    assert [one.text for one in found] == ["caption 0", "caption 1", "caption 2"]
    assert {asked.body["temperature"] for asked in server.questions} == {1.0}


def test_batches_ask_as_many_at_once_as_they_may(server: FakeChatServer) -> None:
    server.slow_s = 0.02
    pipeline = describer(server, concurrency=3)
    images = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(20)]
    server.pieces = lambda asked: (str(_pixel(asked)[0]),)
    threads_made: list[list[str]] = []

    def run() -> None:
        threads_made.append([one.text for one in pipeline.caption(images, "", GREEDY)])

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert threads_made == [[str(shade) for shade in range(20)]] * 2
    assert server.most_at_once == 3


def _pixel(asked: Asked) -> tuple[int, int, int]:
    data = base64.b64decode(asked.media[0].partition(",")[2])
    return Image.open(io.BytesIO(data)).getpixel((0, 0))  # type: ignore[return-value]


def test_one_bad_picture_of_a_batch_harms_no_other(
    server: FakeChatServer, red_circle: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    server.faults = ["413"]
    made = describer(server, concurrency=1).caption(
        [red_circle, tmp_path / "a.png", red_circle], "", GREEDY
    )
    assert [one.text for one in made] == ["", "", TEXT]
    assert "as large as this one" in made[0].error
    assert "not an image that can be read" in made[1].error


def test_a_batch_goes_on_after_a_broken_connection(
    server: FakeChatServer, red_circle: Path
) -> None:
    server.faults = ["drop", "", "garbage"]
    made = describer(server, concurrency=1).caption([red_circle] * 3, "", GREEDY)
    assert [one.text for one in made] == [TEXT, "", TEXT]
    assert "no chat completion" in made[1].error


def test_a_batch_that_nobody_answers_is_not_begun(server: FakeChatServer, red_circle: Path) -> None:
    server.faults = ["503"] * 99
    with failing():
        describer(server).caption([red_circle] * 3, "", GREEDY)


def test_no_key_in_the_log(
    server: FakeChatServer, red_circle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = ["echo", "500", "silence"]
    pipeline = describer(server, timeout_s=0.3)
    with failing():
        pipeline.chat(red_circle, "where is my uncle", None, GREEDY)
    assert caplog.text
    assert KEY not in caplog.text
    assert "uncle" not in caplog.text


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("videos") / "a.mp4", "libx264", num_frames=60)


def films(server: FakeChatServer, **options: Any) -> Any:
    with store_of(server, **options).use("fake", "video-chat") as pipeline:
        return pipeline


def test_a_video_is_sent_as_frames_and_decoded_once(server: FakeChatServer, video: Path) -> None:
    pipeline, part = films(server), Part(max_frames=8)
    deltas = list(pipeline.ask(video, "What happens?", None, GREEDY, part))
    result = deltas[-1].result
    assert result.text == "".join(delta.text for delta in deltas) == TEXT
    assert len(server.questions[0].media) == len(result.seen.times_s) == 8
    assert max(len(delta.pictures) for delta in deltas) == 8
    assert [delta.step.done for delta in deltas if delta.step][-1] == 8
    times = ", ".join(f"{time_s:.1f}" for time_s in result.seen.times_s)
    assert f"at these seconds: {times}." in server.questions[0].text
    again = list(pipeline.ask(video, "And then?", result.history, GREEDY, part))
    assert not any(delta.step for delta in again)
    second = server.questions[1]
    assert second.media == server.questions[0].media
    assert [message["role"] for message in second.body["messages"]] == [
        "user",
        "assistant",
        "user",
    ]
    assert again[-1].result.history[-2:] == (
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": TEXT},
    )


def test_part_of_a_video_in_as_many_frames_as_the_server_takes(
    server: FakeChatServer, video: Path
) -> None:
    part = Part(max_frames=64, start_s=0.5, end_s=1.0)
    *_, last = films(server, max_frames=4).ask(video, "What?", None, GREEDY, part, compress=True)
    times = last.result.seen.times_s
    assert len(times) == 4
    assert all(0.4 <= time_s < 1.0 for time_s in times)
    assert "does not skim" in last.result.notes[-1]


def test_a_video_goes_whole_where_the_server_takes_files(
    server: FakeChatServer, video: Path
) -> None:
    pipeline = films(server, videos="file")
    *_, last = pipeline.ask(video, "What?", None, GREEDY)
    (url,) = server.questions[0].media
    assert base64.b64decode(url.removeprefix("data:video/mp4;base64,")) == video.read_bytes()
    assert last.result.seen.times_s == ()
    *_, _ = pipeline.ask(video, "What?", None, GREEDY, Part(start_s=0.5, max_frames=4))
    assert len(server.questions[1].media) == 4


def test_stopping_a_question_about_a_video(server: FakeChatServer, video: Path) -> None:
    server.faults = ["silence"]
    stream = films(server).ask(video, "What?", None, GREEDY)
    while not next(stream).text:
        pass
    stream.close()
    assert server.left.wait(5)


@pytest.mark.long
def test_a_remote_model_waits_for_no_turn_and_loads_no_torch(
    server: FakeChatServer, tmp_path: Path
) -> None:
    """While somebody else has the device, and in a process that never had torch."""
    code = f"""
import sys
from pathlib import Path
from PIL import Image
from components.widgets.model_lease import lease
from pipelines.core.cancel import NEVER
from pipelines.core.settings import read_settings
from pipelines.serving.store import PipelineStore
store = PipelineStore(read_settings(["--remote=fake={server.url}"], {{}}))
Image.new("RGB", (9, 9)).save(sys.argv[1])
with store.queue.alone(NEVER), lease(store, "fake", "caption") as lent:
    list(lent.wait(None))
    print(lent.pipeline.chat(Path(sys.argv[1]), "Which?").text)
sys.exit("torch" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, TEXT), ran.stderr[-2000:]


def test_a_folder_from_the_command_line(
    server: FakeChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that stops answering ends the run; the next one asks for the rest only."""
    for shade in range(20):
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(tmp_path / f"{shade:02}.png")
    server.pieces = lambda asked: (str(_pixel(asked)[0]),)
    argv = [str(tmp_path), "--models=bundled", "--decoders=inside", "--model=fake"]
    argv.append(f"--remote=fake={server.url}")
    server.faults = [""] * 8 + ["401"] * 99
    assert caption_folder.main(argv) == FAILED
    assert f"fake ({server.host}) asks for a key" in capsys.readouterr().err
    server.faults, server.asked = [], []
    assert caption_folder.main(argv) == DONE
    assert len(server.questions) == 12
    assert [row["caption"] for row in lines(tmp_path / "captions.jsonl")] == [
        str(shade) for shade in range(20)
    ]
    server.models, server.asked = ["another"], []
    assert caption_folder.main([*argv, "--existing=overwrite"]) == DONE
    assert len(server.questions) == 20  # another model's captions are others
