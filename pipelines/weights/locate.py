"""Sources of weights: folders, bundle, Hugging Face cache, hub and ModelScope."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.weights.download import Download
from pipelines.weights.errors import (
    incomplete,
    missing_demo,
    source_endpoint,
    under_way,
    unreachable,
)
from pipelines.weights.files import is_complete, weights_revision
from pipelines.weights.modelscope import check_installed, modelscope_folders
from pipelines.weights.progress import FetchProgress

log = logging.getLogger(__name__)

#: Status codes of a proxy or gateway that cannot reach the hub.
NOT_THE_HUB = frozenset({407, 502, 503, 504})


class Probe:
    """Request to a hub in a background thread, sent on creation; `reason` is that of a failure."""

    def __init__(self, endpoint: str, timeout_s: float, *, before: bool | None = None) -> None:
        """Send the request; `before` is the result of an older probe, valid until the response."""
        self.reason = ""
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._before = before
        self._reachable = False
        self._sent = time.monotonic()
        self._done = threading.Event()
        threading.Thread(target=self._send, name="hub-probe", daemon=True).start()

    def is_older_than(self, seconds: float) -> bool:
        """Return whether it is complete and was sent more than `seconds` ago."""
        return self._done.is_set() and time.monotonic() - self._sent > seconds

    def last_result(self, wait_s: float) -> bool:
        """Return the last known result; waits only if there is none."""
        if self._before is not None and not self._done.is_set():
            return self._before
        return self.result(wait_s)

    def result(self, wait_s: float) -> bool:
        """Return the result of this probe; False without a response `wait_s` after the request."""
        self._done.wait(max(self._sent + wait_s - time.monotonic(), 0.0))
        return self._reachable

    def _send(self) -> None:
        import httpx

        try:
            # any other status shows that the hub is reachable
            response = httpx.head(f"{self._endpoint}/api/models", timeout=self._timeout_s)
            self._reachable = response.status_code not in NOT_THE_HUB
            if not self._reachable:
                self.reason = Message("error {status}", status=response.status_code)
        except Exception as error:  # address, proxy and certificates can be invalid
            self.reason = str(error).partition("\n")[0][:150] or type(error).__name__
        finally:
            self._done.set()
            if self.reason:
                log.info("The hub %s is unreachable: %s", self._endpoint, self.reason)


#: Folder of the bundled checkpoints.
BUNDLE = Path(__file__).parents[2] / "assets" / "checkpoints"

#: Timeouts of the probe and of a stalled download, and validity of a probe, in seconds.
PROBE_TIMEOUT_S = 2.0
STALL_LIMIT_S = 30.0
PROBE_VALID_S = 60.0

#: Maximum number of requests that wait for the download of one model, and of all models. Each
#: occupies one of the 32 or more slots for requests.
MAX_WAITING = 8
MAX_WAITING_IN_ALL = 16


class Sources:
    """Finds the folders of checkpoints and downloads missing ones; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        *,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        stall_limit_s: float = STALL_LIMIT_S,
    ) -> None:
        """Keep the settings; reads no file and sends no request."""
        self._settings = settings
        self._probe_timeout_s = probe_timeout_s
        self._probe_wait_s = probe_timeout_s + 0.5
        self._stall_limit_s = stall_limit_s
        self._lock = threading.Lock()
        self._downloads: dict[str, Download] = {}
        self._waiting: Counter[str] = Counter()
        self._probe: Probe | None = None

    def locate(self, spec: ModelSpec) -> Path | None:
        """Return the folder of a complete checkpoint on disk, or None."""
        folders = (f for f in self._folders(spec) if is_complete(f, spec.stock_files))
        return next(folders, None)

    def revision(self, spec: ModelSpec) -> str:
        """Return an identifier of a model's weights, see `weights_revision`."""
        return weights_revision(spec, self.locate(spec))

    def start_probe(self) -> None:
        """Start a probe of the hub in the background if its weights may be used."""
        if self._settings.models != "bundled":
            self.hub_answers(wait_s=0.0)

    def hub_answers(self, *, wait_s: float | None = None) -> bool:
        """Return whether the hub was reachable at the last probe, at most once a minute.

        Waits only before the first result, for `wait_s` seconds or the probe's timeout.
        """
        if self._settings.offline:
            return False
        probe = self._probe_of(PROBE_VALID_S)
        return probe.last_result(self._probe_wait_s if wait_s is None else wait_s)

    def fetch(self, spec: ModelSpec) -> Iterator[FetchProgress]:
        """Yield progress until the checkpoint is on disk.

        Closing the iterator does not stop the download. A failed download is resumed.

        Raises:
            WeightsError: it is not available, or too many requests wait for it.
        """
        if self.locate(spec) is not None:
            return
        if spec.demo:
            raise missing_demo(spec)
        self._check_reachable(spec)
        download = self._join(spec)
        with self._waiting_slot(spec, download):
            yield from download.follow()
        if self.locate(spec) is None:
            raise incomplete(spec, self._settings)

    def _folders(self, spec: ModelSpec) -> Iterator[Path]:
        if spec.remote is not None:
            return
        if spec.demo:
            yield BUNDLE / spec.key
            return
        root = self._settings.models_dir
        if root is not None:
            owner, _, name = spec.repo.partition("/")
            yield from (root / spec.key, root / owner / name, root / f"{owner}--{name}")
            yield root / name
        if self._settings.source == "modelscope":
            yield from modelscope_folders(spec)
        cached = _cached_snapshot(spec)
        if cached is not None:
            yield cached

    def _probe_of(self, max_age_s: float) -> Probe:
        with self._lock:
            old = self._probe
            if old is None or old.is_older_than(max_age_s):
                self._probe = Probe(
                    source_endpoint(self._settings),
                    self._probe_timeout_s,
                    before=None if old is None else old.last_result(0.0),
                )
            assert self._probe is not None
            return self._probe

    def _check_reachable(self, spec: ModelSpec) -> None:
        if self._settings.offline:
            raise unreachable(spec, self._settings)
        if self._settings.source == "modelscope":
            check_installed()
        start = time.monotonic()
        if self.hub_answers():
            return
        # an older negative result does not suffice to refuse a download
        probe = self._probe_of(time.monotonic() - start)
        if not probe.result(self._probe_wait_s):
            raise unreachable(spec, self._settings, probe.reason)

    @contextmanager
    def _waiting_slot(self, spec: ModelSpec, download: Download) -> Iterator[None]:
        with self._lock:
            waiting = self._waiting
            if waiting[spec.key] >= MAX_WAITING or waiting.total() >= MAX_WAITING_IN_ALL:
                raise under_way(spec, download.progress)
            self._waiting[spec.key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[spec.key] -= 1

    def _join(self, spec: ModelSpec) -> Download:
        with self._lock:
            download = self._downloads.get(spec.key)
            if download is None or download.ended:
                download = Download(spec, self._settings, self._stall_limit_s)
                self._downloads[spec.key] = download
                download.start()
            return download


def _cached_snapshot(spec: ModelSpec) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.repo, "config.json", revision=spec.revision)
    return Path(found).parent if isinstance(found, str) else None
