"""What the tests share: no network, one running app, an app over a fake model, pictures."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# One thread for each process: tests run side by side, and tiny models gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# gradio reads both when it is imported
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="seesay-tests-")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest  # noqa: E402
from gradio_client import Client  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from pipelines.core.results import Classification, Embeddings, LabelScore, Ranked, Ranking, Step  # noqa: E402
from pipelines.core.settings import Settings  # noqa: E402
from pipelines.core.spec import ModelSpec  # noqa: E402
from pipelines.media.images import NamedImage  # noqa: E402
from pipelines.models.catalogue import DEMO_CLIP  # noqa: E402
from pipelines.serving.store import PipelineStore  # noqa: E402
from tests.support.app_process import RunningApp, serve  # noqa: E402

#: Seconds after which an answer counts as hanging.
HANG_S = 60.0

#: Scheduling policy of a process that nobody has changed.
SCHEDULING = getattr(os, "SCHED_OTHER", 0)

LOOPBACK = ("127.", "::1", "localhost")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts an app, or trains and measures demo models, as long."""
    apps = {"running_app", "agents_app", "full_app"}
    for item in items:
        if "demo_models" in item.path.parts:
            item.add_marker(pytest.mark.long)
        starters = {"serve", "bundled_app"} & set(dir(getattr(item, "module", None)))
        if starters or apps & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Fail a test that leaves this process real-time; see `tests.fakes.videos.same_scheduling`."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != SCHEDULING:
        os.sched_setscheduler(0, SCHEDULING, os.sched_param(0))
        pytest.fail("The test changed the scheduling policy of its process.")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Whatever a test tries to reach outside this machine is out of reach."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and not str(address[0]).startswith(LOOPBACK):
            raise OSError(101, f"tests reach no network, but {address} was wanted")
        connect(self, address)

    def resolve_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host and not host.startswith((*LOOPBACK, "0.0.0.0", "::")):
            raise socket.gaierror(-2, f"tests reach no network, but {host} was wanted")
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket, "getaddrinfo", resolve_here)
        yield


@pytest.fixture(scope="session")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """`python app.py --models bundled` in a process of its own; takes files up to 8 MB."""
    with serve(tmp_path_factory.mktemp("app"), "--max-upload-mb", "8") as app:
        yield app


@pytest.fixture(scope="session")
def agents_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app that serves agents too."""
    with serve(tmp_path_factory.mktemp("mcp"), "--mcp") as app:
        yield app


@pytest.fixture(scope="session")
def full_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app whose disk has less room than the largest file that it takes."""
    with serve(tmp_path_factory.mktemp("full"), "--mcp", "--max-upload-mb", "1e12") as app:
        yield app


@pytest.fixture(scope="session")
def client(running_app: RunningApp) -> Iterator[Client]:
    """A script's connection to the running app."""
    yield connect(running_app.url)


def connect(url: str, **more: Any) -> Client:
    """Connect as a script does, but wait longer than its five seconds for a busy machine."""
    wait = {"timeout": HANG_S}
    return Client(url, ssl_verify=False, verbose=False, httpx_kwargs=wait, **more)


@dataclass
class FakePipeline:
    """Answers without a model, each request alike; raises `error` instead while it is set."""

    spec: ModelSpec = DEMO_CLIP
    error: BaseException | None = None
    loaded: bool = False
    asked: list[Any] = field(default_factory=list)

    def load(self) -> None:
        self.loaded = True

    def unload(self) -> None:
        self.loaded = False

    def prepare(self, *args: Any, **options: Any) -> Iterator[Step]:
        return iter(())

    def classify(self, image: Path, labels: list[str], *, templates: str = "") -> Classification:
        self._note(image, labels, templates)
        share = 1.0 / len(labels)
        scores = [
            LabelScore(label=label, probability=share, cosine=0.5, evidence=0.0, verdict="unsure")
            for label in labels
        ]
        return Classification(scores=tuple(scores), model=self.spec.key)

    def rank(self, query: str | NamedImage, texts: list[str], images: list[NamedImage]) -> Ranking:
        self._note(query, texts, images)
        rows = [
            Ranked(
                rank=index + 1,
                index=index,
                candidate=text,
                kind="text",
                cosine=0.5,
                evidence=0.0,
                verdict="unsure",
            )
            for index, text in enumerate(texts)
        ]
        return Ranking(rows=tuple(rows), model=self.spec.key)

    def embed_texts(self, texts: list[str]) -> Embeddings:
        self._note(texts)
        vectors = tuple((1.0, 0.0) for _ in texts)
        return Embeddings(vectors=vectors, names=tuple(texts), model=self.spec.key, dim=2)

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


@dataclass(frozen=True)
class FakeApp:
    """The app in this process, over a fake model."""

    client: Client
    pipeline: FakePipeline
    store: PipelineStore
    url: str


@pytest.fixture(scope="session")
def fake_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeApp]:
    from components.page import build_app, launch_options
    from components.server.services import Services

    settings = Settings(
        models="bundled",
        port=0,
        device="cpu",
        dtype="float32",
        work_dir=Path(os.environ["GRADIO_TEMP_DIR"]),
        cache_dir=tmp_path_factory.mktemp("cache"),
        offline=True,
    )
    pipeline, store = FakePipeline(), PipelineStore(settings)
    store.build = lambda spec, folder, device, settings: pipeline  # type: ignore[return-value]
    app = build_app(Services.of(store))
    _, url, _ = app.launch(**{**launch_options(settings), "quiet": True}, prevent_thread_lock=True)
    yield FakeApp(connect(url), pipeline, store, url)
    app.close(verbose=False)


@pytest.fixture
def fake_app(fake_session: FakeApp) -> Iterator[FakeApp]:
    """An app whose model does as it is told, and is well again after the test."""
    fake_session.pipeline.asked.clear()
    yield fake_session
    fake_session.pipeline.error = None


def draw_circle(colour: str = "#e4202c", size: int = 224) -> Image.Image:
    """Return a disc of one colour on white, without half tones."""
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill=colour)
    return image


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture or bytes into a file of that name."""

    def write(name: str, content: Image.Image | bytes, **options: Any) -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)
        return path

    return write


@pytest.fixture
def red_circle(save: Callable[..., Path]) -> Path:
    return save("red-circle.png", draw_circle())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny models on a busy machine spend their time on waiting for the other thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
