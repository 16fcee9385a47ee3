"""Where weights come from: a folder, the bundle, the Hugging Face cache, a hub or ModelScope."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.catalogue import ModelSpec
from pipelines.errors import WeightsError
from pipelines.fetching import PICKLED, SAFETENSORS, Download, FetchProgress, modelscope_folder
from pipelines.settings import Settings

log = logging.getLogger(__name__)

#: The bundled checkpoints.
BUNDLE = Path(__file__).parent.parent / "assets" / "checkpoints"

#: Seconds that the hub has to answer the probe, and that a download may stand still.
PROBE_TIMEOUT_S = 2.0
STALL_LIMIT_S = 30.0
#: Seconds for which the probe's answer is believed.
PROBE_VALID_S = 60.0


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
        self._downloads: dict[str, Download] = {}
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
        if self._settings.source == "modelscope":
            folder = modelscope_folder(spec)
            if _is_complete(folder):
                return folder
        return _cached_snapshot(spec)

    def start_probe(self) -> None:
        """Ask in the background whether the hub answers; returns at once."""
        self.hub_answers(wait_s=0.0)

    def hub_answers(self, *, wait_s: float = PROBE_TIMEOUT_S + 0.5) -> bool:
        """Return whether the hub was reachable when last asked.

        The question itself is asked in a thread of its own, at most once a minute. While an old
        answer is being renewed it stands, so that only the very first caller may wait, and no
        longer than `wait_s` seconds.
        """
        if self._settings.offline:
            return False
        with self._lock:
            if self._probe is None:
                self._probe = _Probe(self._settings)
            elif self._probe.stale:
                self._probe = _Probe(self._settings, before=self._probe.answer(0.0))
            probe = self._probe
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
        if self._settings.offline or (self._settings.source == "hub" and not self.hub_answers()):
            raise _unreachable(spec, self._settings)
        download = self._join(spec)
        yield from download.follow(self._stall_limit_s)
        if self.locate(spec) is None:
            raise WeightsError(
                f"{spec.repo} was downloaded but holds no complete checkpoint (config.json and "
                "weights are needed). Check --models-dir, HF_ENDPOINT or the repository."
            )

    def _join(self, spec: ModelSpec) -> Download:
        with self._lock:
            download = self._downloads.get(spec.key)
            if download is None or download.finished:
                download = self._downloads[spec.key] = Download(spec, self._settings)
                download.start()
            return download


def _is_complete(folder: Path) -> bool:
    """Whether `folder` holds a configuration and all files of its weights."""
    if not (folder / "config.json").is_file():
        return False
    for index in folder.glob("*.index.json"):
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

    def __init__(self, settings: Settings, *, before: bool | None = None) -> None:
        self._settings = settings
        self._born = time.monotonic()
        self._answered = threading.Event()
        self._before = before
        self._reachable = False
        threading.Thread(target=self._ask, name="hub-probe", daemon=True).start()

    @property
    def stale(self) -> bool:
        """Whether it is too old to be believed."""
        return self._answered.is_set() and time.monotonic() - self._born > PROBE_VALID_S

    def answer(self, wait_s: float) -> bool:
        """Return whether the hub answered, waiting at most `wait_s` where nothing is known yet."""
        if self._before is not None and not self._answered.is_set():
            return self._before
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
