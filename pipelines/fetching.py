"""Downloads: from a hub or ModelScope, shared by all who wait, resumed where they broke off."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.catalogue import ModelSpec
from pipelines.errors import PipelineError, WeightsError
from pipelines.resuming import fetch_blob
from pipelines.settings import Settings

log = logging.getLogger(__name__)

#: What is fetched of a repository; of the weights, safetensors where there are any.
SMALL_FILES = ("*.json", "*.txt", "tokenizer.model", "*.jinja")
SAFETENSORS = "*.safetensors"
PICKLED = "pytorch_model*.bin"

#: Files of at least this size are fetched so that they can be resumed.
LARGE_BYTES = 1_000_000


@dataclass(frozen=True)
class FetchProgress:
    """How far a download is.

    Attributes:
        done_bytes: bytes on disk, those of an earlier, interrupted download included.
        total_bytes: bytes in all as far as known; 0 when unknown.
    """

    done_bytes: int
    total_bytes: int


class Download:
    """One running download; several visitors may follow it."""

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        """Prepare the download of `spec`; nothing happens before `start`."""
        self._spec = spec
        self._settings = settings
        self._error: PipelineError | None = None
        self._done = threading.Event()
        self._meter = Meter()

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    def start(self) -> None:
        """Download in a thread of its own."""
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


class Meter:
    """Counts the bytes of one download."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._moved = time.monotonic()

    def expect(self, total: int) -> None:
        """Say how many bytes there will be."""
        with self._lock:
            self._total = total

    def add(self, count: int) -> None:
        """Say that `count` more bytes are there."""
        with self._lock:
            self._done += count
            self._moved = time.monotonic()

    def progress(self) -> FetchProgress:
        """Return how far it is."""
        with self._lock:
            return FetchProgress(self._done, self._total)

    def still_for_s(self) -> float:
        """Return for how many seconds no byte has come."""
        with self._lock:
            return time.monotonic() - self._moved


def _from_hub(spec: ModelSpec, settings: Settings, meter: Meter) -> None:
    """Download a checkpoint into the Hugging Face cache.

    The library throws half a file away when it is interrupted, so large files are brought by
    `fetch_blob`, which goes on where it stopped; the library then adds the small ones and ties
    up the snapshot.
    """
    from huggingface_hub import HfApi, RepoFile, snapshot_download

    token = False if settings.is_mirror else None
    _ask_once(spec, settings, token)
    tree = HfApi(endpoint=settings.endpoint, token=token).list_repo_tree(
        spec.repo, revision=spec.revision
    )
    files = [entry for entry in tree if isinstance(entry, RepoFile) and "/" not in entry.path]
    has_safetensors = any(file.path.endswith(".safetensors") for file in files)
    patterns = [*SMALL_FILES, SAFETENSORS if has_safetensors else PICKLED]
    wanted = [f for f in files if any(fnmatch(f.path, pattern) for pattern in patterns)]
    meter.expect(sum(file.size for file in wanted))
    for file in wanted:
        if file.size >= LARGE_BYTES:
            fetch_blob(spec, file.path, settings.endpoint, token, meter.add)
    snapshot_download(
        spec.repo,
        revision=spec.revision,
        endpoint=settings.endpoint,
        token=token,
        allow_patterns=[file.path for file in wanted],
        tqdm_class=_silent_bar(),
    )
    meter.add(sum(file.size for file in wanted if file.size < LARGE_BYTES))


def _ask_once(spec: ModelSpec, settings: Settings, token: bool | None) -> None:
    """Ask for the revision once; the library would try a broken hub for half a minute."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    address = f"{settings.endpoint}/api/models/{spec.repo}/revision/{spec.revision}"
    answer = get_session().get(address, headers=build_hf_headers(token=token), timeout=10)
    hf_raise_for_status(answer)


def _silent_bar() -> type:
    """Return a progress bar that prints nothing."""
    from tqdm.auto import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent


def modelscope_folder(spec: ModelSpec) -> Path:
    """Return where ModelScope's library keeps a model, whether it is there or not."""
    cache = os.environ.get("MODELSCOPE_CACHE")
    root = Path(cache) if cache else Path.home() / ".cache" / "modelscope" / "hub"
    return root / "models" / spec.repo


def _from_modelscope(spec: ModelSpec, meter: Meter) -> None:
    """Download a checkpoint from ModelScope, with its own library."""
    try:
        from modelscope import snapshot_download
        from modelscope.hub.callback import ProgressCallback
    except ImportError as error:
        raise WeightsError(
            "ModelScope was asked for (--source modelscope) but its library is not installed. "
            "Run `pip install modelscope`, or leave the flag out to use the Hugging Face hub."
        ) from error

    class Feed(ProgressCallback):
        """Adds what comes to the meter."""

        def update(self, size: int) -> None:
            meter.add(size)

    meter.expect(int(spec.download_gb * 1e9))
    snapshot_download(
        spec.repo,
        local_dir=str(modelscope_folder(spec)),
        allow_patterns=[*SMALL_FILES, SAFETENSORS, PICKLED],
        progress_callbacks=[Feed],
    )


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
