"""Downloads from a hub or ModelScope, shared by waiting requests and resumed after failures."""

import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.core.cancel import Cancelled
from pipelines.core.errors import PipelineError
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.weights.errors import explain, stalled
from pipelines.weights.files import choose_files
from pipelines.weights.hub import READ_TIMEOUT_S, RESPONSE_TIMEOUT_S, fetch_file, repo_folder
from pipelines.weights.modelscope import fetch_from_modelscope
from pipelines.weights.progress import DownloadMeter, FetchProgress

log = logging.getLogger(__name__)

#: Seconds between two reports of progress.
POLL_S = 0.25


class Download:
    """Download of one model, with any number of followers."""

    def __init__(self, spec: ModelSpec, settings: Settings, stall_limit_s: float) -> None:
        self._spec = spec
        self._settings = settings
        self._stall_limit_s = stall_limit_s
        self._error: PipelineError | None = None
        self._ended = threading.Event()
        self._meter = DownloadMeter()

    @property
    def ended(self) -> bool:
        """Return whether it has ended; this also ends a stalled download."""
        if not self._ended.is_set() and self._meter.still_for_s() > self._stall_limit_s:
            self._error = stalled(self._spec, self._settings, self._stall_limit_s)
            self._meter.cancel.cancel()
            self._ended.set()
        return self._ended.is_set()

    @property
    def progress(self) -> FetchProgress:
        """Progress in bytes."""
        return self._meter.progress()

    def start(self) -> None:
        """Start the download in a background thread."""
        threading.Thread(target=self._work, name=f"fetch-{self._spec.key}", daemon=True).start()

    def follow(self) -> Iterator[FetchProgress]:
        """Yield progress every `POLL_S` until the end; raise `WeightsError` if it fails."""
        while not self.ended:
            yield self.progress
            self._ended.wait(POLL_S)
        if self._error is not None:
            raise type(self._error)(self._error.message, title=self._error.title)
        yield self.progress

    def _work(self) -> None:
        error: PipelineError | None = None
        try:
            if self._settings.source == "modelscope":
                fetch_from_modelscope(self._spec, self._meter)
            else:
                _from_hub(self._spec, self._settings, self._meter)
            self._meter.finish()
        except Cancelled:
            log.info("The cancelled download of %s has ended", self._spec.repo)
        except PipelineError as known:
            error = known
        except Exception as unknown:  # the libraries raise errors of many types
            log.warning("Download of %s failed", self._spec.repo, exc_info=unknown)
            error = explain(unknown, self._spec, self._settings)
        if not self._ended.is_set():  # else it has stalled
            self._error = error
            self._ended.set()


def _from_hub(spec: ModelSpec, settings: Settings, meter: DownloadMeter) -> None:
    """Download a checkpoint into the Hugging Face cache.

    The library deletes partial files, so `fetch_file` downloads the files and can resume them; the
    library then creates the snapshot.
    """
    import httpx
    from huggingface_hub import HfApi, constants, snapshot_download

    token = False if settings.is_mirror else None
    info = HfApi(endpoint=settings.endpoint, token=token).model_info(
        spec.repo, revision=spec.revision, files_metadata=True, timeout=RESPONSE_TIMEOUT_S
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    names = choose_files(sizes)
    total = sum(sizes[name] for name in names)
    _check_space(Path(constants.HF_HUB_CACHE), spec, total)
    meter.expect(total)
    timeout = httpx.Timeout(RESPONSE_TIMEOUT_S, read=READ_TIMEOUT_S)
    with httpx.Client(timeout=timeout, follow_redirects=True) as client:
        for name in names:
            fetch_file(spec, name, settings.endpoint, token, client, meter)
    snapshot_download(
        spec.repo,
        revision=spec.revision,
        endpoint=settings.endpoint,
        token=token,
        allow_patterns=names,
        tqdm_class=_silent_bar(),
    )


def _check_space(cache: Path, spec: ModelSpec, total: int) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    blobs = cache / repo_folder(spec) / "blobs"
    present = sum(file.stat().st_size for file in blobs.glob("*") if file.is_file())
    if total - present > shutil.disk_usage(cache).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _silent_bar() -> type:
    from tqdm.auto import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent
