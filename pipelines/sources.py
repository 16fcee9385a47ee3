"""Where weights come from: a folder, the bundle, the Hugging Face cache, a hub or ModelScope."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.catalogue import ModelSpec
from pipelines.errors import PipelineError, WeightsError
from pipelines.settings import Settings

log = logging.getLogger(__name__)

#: The bundled checkpoints.
BUNDLE = Path(__file__).parent.parent / "assets" / "checkpoints"

#: What is fetched of a repository; of the weights, safetensors where there are any.
SMALL_FILES = ("*.json", "*.txt", "tokenizer.model", "*.jinja")
SAFETENSORS = "*.safetensors"
PICKLED = "pytorch_model*.bin"

#: Seconds that the hub has to answer the probe, and that a download may stand still.
PROBE_TIMEOUT_S = 2.0
STALL_LIMIT_S = 30.0
#: Seconds for which the probe's answer is believed.
PROBE_VALID_S = 60.0


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is.

    Attributes:
        done_bytes: bytes on disk, those of an earlier, interrupted download included.
        total_bytes: bytes in all as far as known; 0 when unknown.
    """

    done_bytes: int
    total_bytes: int


class Sources:
    """Finds the folder of a checkpoint, and fetches it where it is on no disk.

    Holds no weights. Any number of threads may call it; a model is downloaded once at a time,
    whoever waits for it.
    """

    def __init__(self, settings: Settings, *, stall_limit_s: float = STALL_LIMIT_S) -> None:
        """Remember the settings; nothing is read and nobody is asked yet."""
        self._settings = settings
        self._stall_limit_s = stall_limit_s
        self._lock = threading.Lock()
        self._downloads: dict[str, _Download] = {}
        self._probe: _Probe | None = None

    def locate(self, spec: ModelSpec) -> Path | None:
        """Return the folder of a complete checkpoint on disk, or None; never asks the network."""
        if spec.demo:
            folder = BUNDLE / spec.key
            return folder if _is_complete(folder) else None
        root = self._settings.models_dir
        if root is not None:
            names = (spec.key, spec.repo, spec.repo.replace("/", "--"), spec.repo.split("/")[-1])
            for name in names:
                if _is_complete(root / name):
                    return root / name
        return _cached_snapshot(spec)

    def hub_answers(self, *, wait_s: float = PROBE_TIMEOUT_S + 0.5) -> bool:
        """Return whether the hub was reachable within the last minute.

        The question itself is asked in a thread of its own, at most once a minute, so that
        nobody waits for it longer than `wait_s` seconds.
        """
        if self._settings.offline:
            return False
        with self._lock:
            probe = self._probe
            if probe is None or probe.stale:
                probe = self._probe = _Probe(self._settings)
        return probe.answer(wait_s)

    def fetch(self, spec: ModelSpec) -> Iterator[FetchProgress]:
        """Yield progress until the checkpoint is on disk; nothing is yielded if it is already.

        Closing the iterator leaves the download running for whoever asks next. A broken
        download goes on where it stopped.

        Raises:
            WeightsError: it cannot be had; the message says why and which setting helps.
        """
        if self.locate(spec) is not None:
            return
        if spec.demo:
            raise WeightsError(
                f"The bundled model {spec.key!r} is missing from this copy of SeeSay. "
                "Clone the repository again, or run `make demo-models`."
            )
        if self._settings.source == "hub" and not self.hub_answers():
            raise _unreachable(spec, self._settings)
        download = self._join(spec)
        yield from download.follow(self._stall_limit_s)
        if self.locate(spec) is None:
            raise WeightsError(
                f"{spec.repo} was downloaded but holds no complete checkpoint (config.json and "
                "weights are needed). Check --models-dir, HF_ENDPOINT or the repository."
            )

    def _join(self, spec: ModelSpec) -> "_Download":
        with self._lock:
            download = self._downloads.get(spec.key)
            if download is None or download.finished:
                download = self._downloads[spec.key] = _Download(spec, self._settings)
                download.start()
            return download


def _is_complete(folder: Path) -> bool:
    """Whether `folder` holds a configuration and all files of its weights."""
    if not (folder / "config.json").is_file():
        return False
    for index in folder.glob("*.index.json"):
        import json

        try:
            wanted = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, OSError):
            return False
        return all((folder / name).is_file() for name in wanted)
    return any(any(folder.glob(pattern)) for pattern in (SAFETENSORS, PICKLED))


def _cached_snapshot(spec: ModelSpec) -> Path | None:
    """Return the folder of `spec` in the Hugging Face cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.repo, "config.json", revision=spec.revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if _is_complete(folder) else None


def _unreachable(spec: ModelSpec, settings: Settings) -> WeightsError:
    if settings.offline:
        return WeightsError(
            f"The weights of {spec.key} are not on this machine and HF_HUB_OFFLINE forbids to "
            "download them. Unset it, or point --models-dir at a folder that holds them."
        )
    return WeightsError(
        f"The weights of {spec.key} are not on this machine and {settings.endpoint} does not "
        "answer. Check the network or a proxy (HTTPS_PROXY), set HF_ENDPOINT to a mirror, or "
        "point --models-dir at a folder that holds them. The demo models need no network."
    )


class _Probe:
    """One question to the hub, asked in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._born = time.monotonic()
        self._answered = threading.Event()
        self._reachable = False
        threading.Thread(target=self._ask, name="hub-probe", daemon=True).start()

    @property
    def stale(self) -> bool:
        """Whether it is too old to be believed."""
        return self._answered.is_set() and time.monotonic() - self._born > PROBE_VALID_S

    def answer(self, wait_s: float) -> bool:
        """Return whether the hub answered, waiting at most `wait_s` for it."""
        remaining = self._born + wait_s - time.monotonic()
        self._answered.wait(max(remaining, 0.0))
        return self._reachable

    def _ask(self) -> None:
        import httpx

        try:
            # any answer will do, an error page too: it shows that somebody is there
            httpx.head(f"{self._settings.endpoint}/api/models", timeout=PROBE_TIMEOUT_S)
            self._reachable = True
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            log.info("The hub %s does not answer: %s", self._settings.endpoint, error)
        finally:
            self._answered.set()


class _Download:
    """One running download; several visitors may follow it."""

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        self._spec = spec
        self._settings = settings
        self._error: PipelineError | None = None
        self._done = threading.Event()
        self._meter = _Meter()

    @property
    def finished(self) -> bool:
        return self._done.is_set()

    def start(self) -> None:
        threading.Thread(target=self._work, name=f"fetch-{self._spec.key}", daemon=True).start()

    def follow(self, stall_limit_s: float) -> Iterator[FetchProgress]:
        """Yield progress twice a second until the end.

        Raises:
            WeightsError: it failed, or no byte came for `stall_limit_s` seconds.
        """
        while not self._done.wait(0.5):
            yield self._meter.progress()
            if self._meter.still_for_s() > stall_limit_s:
                raise WeightsError(
                    f"The download of {self._spec.repo} stands still: no data for "
                    f"{stall_limit_s:.0f} s from {self._settings.endpoint}. What came is kept; "
                    "try again later, or set HF_ENDPOINT to a mirror."
                )
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            if self._settings.source == "modelscope":
                _from_modelscope(self._spec, self._meter)
            else:
                _from_hub(self._spec, self._settings, self._meter)
        except PipelineError as error:
            self._error = error
        except Exception as error:  # the libraries raise many kinds; all end in one sentence
            log.warning("Download of %s failed", self._spec.repo, exc_info=error)
            self._error = _explain(error, self._spec, self._settings)
        finally:
            self._done.set()


class _Meter:
    """Counts bytes; fed by the tqdm bars that the hub library drives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._moved = time.monotonic()

    def expect(self, total: int) -> None:
        with self._lock:
            self._total = total

    def at_least(self, done: int) -> None:
        """Say that `done` bytes are there; several bars count the same bytes, so the most wins."""
        with self._lock:
            if done > self._done:
                self._done = done
                self._moved = time.monotonic()

    def progress(self) -> FetchProgress:
        with self._lock:
            return FetchProgress(self._done, self._total)

    def still_for_s(self) -> float:
        with self._lock:
            return time.monotonic() - self._moved


def _from_hub(spec: ModelSpec, settings: Settings, meter: _Meter) -> None:
    """Download a checkpoint into the Hugging Face cache, resuming what is there."""
    from huggingface_hub import HfApi, RepoFile, snapshot_download

    token = False if settings.is_mirror else None
    api = HfApi(endpoint=settings.endpoint, token=token)
    tree = api.list_repo_tree(spec.repo, revision=spec.revision)
    sizes = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
    weights = SAFETENSORS if any(name.endswith(".safetensors") for name in sizes) else PICKLED
    patterns = [*SMALL_FILES, weights]
    wanted = [name for name in sizes if any(fnmatch(name, pattern) for pattern in patterns)]
    meter.expect(sum(sizes[name] for name in wanted))
    snapshot_download(
        spec.repo,
        revision=spec.revision,
        endpoint=settings.endpoint,
        token=token,
        allow_patterns=wanted,
        tqdm_class=_bar_class(meter),
    )


def _bar_class(meter: _Meter) -> type:
    """Return a silent tqdm class whose bars of bytes feed `meter`."""
    from tqdm.auto import tqdm

    class MeterBar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            moved = super().update(n)
            if self._counts_bytes:
                meter.at_least(int(self.n))
            return moved

    return MeterBar


class _Nowhere:
    """A text file that forgets; tqdm needs one to count without printing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


def _from_modelscope(spec: ModelSpec, meter: _Meter) -> None:
    """Download a checkpoint from ModelScope into `<its cache>`, with its own library."""
    try:
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError as error:
        raise WeightsError(
            "ModelScope was asked for (--source modelscope) but its library is not installed. "
            "Run `pip install modelscope`, or leave the flag out to use the Hugging Face hub."
        ) from error
    del meter
    snapshot_download(spec.repo)


def _explain(error: Exception, spec: ModelSpec, settings: Settings) -> WeightsError:
    """Turn what the hub library raised into one sentence for the visitor."""
    from huggingface_hub import errors as hub

    where = settings.endpoint
    if isinstance(error, hub.GatedRepoError):
        text = (
            f"{spec.repo} is gated on {where}: accept its conditions there, then set HF_TOKEN to "
            "a token of your account."
        )
    elif isinstance(error, hub.RevisionNotFoundError):
        text = f"{where} has {spec.repo} but not the revision {spec.revision}. Update SeeSay."
    elif isinstance(error, hub.RepositoryNotFoundError):
        text = (
            f"{where} has no repository {spec.repo} that you may read. If HF_ENDPOINT is a "
            "mirror, try another; if the repository is private, set HF_TOKEN."
        )
    elif isinstance(error, hub.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        text = f"{where} answered with error {status} for {spec.repo}. Try again later."
    elif isinstance(error, OSError) and error.errno == 28:
        text = (
            f"The disk is full: {spec.repo} needs {spec.download_gb:.1f} GB. Free some space, or "
            "set HF_HOME to a larger disk."
        )
    else:
        text = (
            f"The download of {spec.repo} from {where} broke off. What came is kept and the next "
            "try goes on from there; check the network, or set HF_ENDPOINT to a mirror."
        )
    return WeightsError(text)
