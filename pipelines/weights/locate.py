"""Where weights come from: a folder, the bundle, the Hugging Face cache, a hub or ModelScope."""

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
from pipelines.weights.files import is_complete
from pipelines.weights.modelscope import check_installed, modelscope_folders
from pipelines.weights.progress import FetchProgress

log = logging.getLogger(__name__)

#: What a proxy or a gateway says in the name of a hub that it cannot reach.
NOT_THE_HUB = frozenset({407, 502, 503, 504})


class Probe:
    """One question to a hub, asked in a thread of its own.

    Attributes:
        reason: why the answer is no, in the words of whoever refused; empty until then.
    """

    def __init__(self, endpoint: str, timeout_s: float, *, before: bool | None = None) -> None:
        """Ask at once.

        Args:
            endpoint: address of the hub.
            timeout_s: seconds it has for each step of the answer.
            before: answer of an older probe, which stands until this one has its own.
        """
        self.reason = ""
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._before = before
        self._reachable = False
        self._born = time.monotonic()
        self._answered = threading.Event()
        threading.Thread(target=self._ask, name="hub-probe", daemon=True).start()

    def is_older_than(self, seconds: float) -> bool:
        """Whether it has its answer and asked for it longer ago than that."""
        return self._answered.is_set() and time.monotonic() - self._born > seconds

    def answer(self, wait_s: float) -> bool:
        """Return the last answer known, waiting only where there is none at all yet."""
        if self._before is not None and not self._answered.is_set():
            return self._before
        return self.own_answer(wait_s)

    def own_answer(self, wait_s: float) -> bool:
        """Return this probe's own answer; no where none has come `wait_s` after it asked."""
        self._answered.wait(max(self._born + wait_s - time.monotonic(), 0.0))
        return self._reachable

    def _ask(self) -> None:
        import httpx

        try:
            # any other answer will do, an error page too: it shows that somebody is there
            answer = httpx.head(f"{self._endpoint}/api/models", timeout=self._timeout_s)
            self._reachable = answer.status_code not in NOT_THE_HUB
            self.reason = (
                "" if self._reachable else Message("error {status}", status=answer.status_code)
            )
        except Exception as error:  # the address, the proxy and the certificates can be wrong
            self.reason = str(error).partition("\n")[0][:150] or type(error).__name__
        finally:
            self._answered.set()
            if self.reason:
                log.info("The hub %s does not answer: %s", self._endpoint, self.reason)


#: The bundled checkpoints.
BUNDLE = Path(__file__).parents[2] / "assets" / "checkpoints"

#: Seconds that the hub has to answer the probe, and that a download may stand still.
PROBE_TIMEOUT_S = 2.0
STALL_LIMIT_S = 30.0
#: Seconds for which the probe's answer is believed.
PROBE_VALID_S = 60.0

#: Requests that wait for the download of one model, and of all. Each keeps one of the places in
#: which requests are answered (32 or more), and the others must not be without any.
MOST_WAITING = 8
MOST_WAITING_IN_ALL = 16


class Sources:
    """Finds the folder of a checkpoint, and fetches it where it is on no disk.

    Holds no weights. Any number of threads may call it; a model is downloaded once at a time,
    whoever waits for it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        stall_limit_s: float = STALL_LIMIT_S,
    ) -> None:
        """Remember the settings; nothing is read and nobody is asked yet."""
        self._settings = settings
        self._probe_timeout_s = probe_timeout_s
        self._probe_wait_s = probe_timeout_s + 0.5
        self._stall_limit_s = stall_limit_s
        self._lock = threading.Lock()
        self._downloads: dict[str, Download] = {}
        self._waiting: Counter[str] = Counter()
        self._probe: Probe | None = None

    def locate(self, spec: ModelSpec) -> Path | None:
        """Return the folder of a complete checkpoint on disk, or None; never asks the network."""
        found = (f for f in self._folders(spec) if is_complete(f, spec.stock_files))
        return next(found, None)

    def start_probe(self) -> None:
        """Ask in the background whether the hub answers, if it may matter; returns at once."""
        if self._settings.models != "bundled":
            self.hub_answers(wait_s=0.0)

    def hub_answers(self, *, wait_s: float | None = None) -> bool:
        """Return whether the hub was reachable when last asked.

        The question itself is asked in a thread of its own, at most once a minute. While an old
        answer is being renewed it stands, so that only those who come before the very first
        answer wait, and no longer than `wait_s` seconds: the probe's own limit when None.
        """
        if self._settings.offline:
            return False
        probe = self._probe_of(PROBE_VALID_S)
        return probe.answer(self._probe_wait_s if wait_s is None else wait_s)

    def fetch(self, spec: ModelSpec) -> Iterator[FetchProgress]:
        """Yield progress until the checkpoint is on disk; nothing is yielded if it is already.

        Closing the iterator leaves the download running for whoever asks next. A broken
        download goes on where it stopped.

        Raises:
            WeightsError: it cannot be had, and the message says why and which setting helps; or
                enough requests wait for it already.
        """
        if self.locate(spec) is not None:
            return
        if spec.demo:
            raise missing_demo(spec)
        self._check_reachable(spec)
        download = self._join(spec)
        with self._place(spec, download):
            yield from download.follow()
        if self.locate(spec) is None:
            raise incomplete(spec, self._settings)

    def _folders(self, spec: ModelSpec) -> Iterator[Path]:
        """Yield where the checkpoint may be, the place that was named by hand first."""
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
        """Return the last probe, or a new one where its answer is older than that."""
        with self._lock:
            old = self._probe
            if old is None or old.is_older_than(max_age_s):
                self._probe = Probe(
                    source_endpoint(self._settings),
                    self._probe_timeout_s,
                    before=None if old is None else old.answer(0.0),
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
        # a "no" from before is not enough to refuse somebody who wants a download now
        probe = self._probe_of(time.monotonic() - start)
        if not probe.own_answer(self._probe_wait_s):
            raise unreachable(spec, self._settings, probe.reason)

    @contextmanager
    def _place(self, spec: ModelSpec, download: Download) -> Iterator[None]:
        """Take one of the places of those who wait for a download."""
        with self._lock:
            if (
                self._waiting[spec.key] >= MOST_WAITING
                or self._waiting.total() >= MOST_WAITING_IN_ALL
            ):
                raise under_way(spec, download.progress)
            self._waiting[spec.key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[spec.key] -= 1

    def _join(self, spec: ModelSpec) -> Download:
        """Return the running download of a model, or start one."""
        with self._lock:
            download = self._downloads.get(spec.key)
            if download is None or download.ended:
                download = Download(spec, self._settings, self._stall_limit_s)
                self._downloads[spec.key] = download
                download.start()
            return download


def _cached_snapshot(spec: ModelSpec) -> Path | None:
    """Return the folder of `spec` in the Hugging Face cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.repo, "config.json", revision=spec.revision)
    return Path(found).parent if isinstance(found, str) else None
