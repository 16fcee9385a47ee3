"""Resumable download of a file of a hub repository into the Hugging Face cache."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import WeightsError
from pipelines.core.spec import ModelSpec
from pipelines.weights.progress import DownloadMeter

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: Number of attempts without progress, and seconds between them.
TRIES = 4
RETRY_WAIT_S = 1.0

#: Maximum seconds until the start of a response, and between two chunks.
RESPONSE_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0

#: Status codes after which a request is repeated.
RETRY_STATUS = frozenset({408, 416, 429, 500, 502, 503, 504})

#: Seconds between two checks of a file that another process downloads.
LOCK_POLL_S = 1.0

#: Bytes between two reports of progress.
CHUNK_BYTES = 256 * 1024


def repo_folder(spec: ModelSpec) -> str:
    """Return the folder name of a model in the Hugging Face cache."""
    return "models--" + spec.repo.replace("/", "--")


def fetch_file(
    spec: ModelSpec,
    name: str,
    endpoint: str,
    token: bool | None,
    client: "httpx.Client",
    meter: DownloadMeter,
) -> None:
    """Download a file of a repository into the cache, or resume an earlier download.

    `token` is False for no token, None for the configured one; `client` removes it in redirects to
    other hosts. `meter` receives the number of bytes, including those of an earlier download.

    Raises:
        WeightsError: the content has another size or hash.
        Cancelled: the meter's token is cancelled.
        httpx.HTTPError: the connection failed repeatedly.
        HfHubHTTPError: the hub refused the request.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    address = hf_hub_url(spec.repo, name, revision=spec.revision, endpoint=endpoint)
    facts = get_hf_file_metadata(
        address, token=token, endpoint=endpoint, timeout=RESPONSE_TIMEOUT_S
    )
    meter.add(0)
    if not facts.etag or facts.size is None or Path(facts.etag).name != facts.etag:
        raise WeightsError(
            "{source} does not give size and hash of {file} in {repo}. If HF_ENDPOINT is a "
            "mirror, try another.",
            source=endpoint,
            file=name,
            repo=spec.repo,
        )
    cache, repository = Path(constants.HF_HUB_CACHE), repo_folder(spec)
    blob = cache / repository / "blobs" / facts.etag
    lock = cache / ".locks" / repository / f"{facts.etag}.lock"  # shared with the library
    with _locked(lock, blob, meter):
        if blob.is_file() and blob.stat().st_size == facts.size:
            meter.add(facts.size)
            return
        path, headers = blob.with_name(f"{facts.etag}.part"), build_hf_headers(token=token)
        part = _PartialFile(path, address, facts.size, headers, client, meter)
        part.complete()
        if not part.is_valid(facts.etag):
            path.unlink()
            raise WeightsError(
                "{file} of {repo} came damaged (its hash is wrong) and was thrown away. Try "
                "again; if it stays so, HF_ENDPOINT names a broken mirror.",
                file=name,
                repo=spec.repo,
            )
        path.replace(blob)


@contextmanager
def _locked(lock: Path, blob: Path, meter: DownloadMeter) -> Iterator[None]:
    """Hold `lock`; while another process holds it, growth of its file is a heartbeat."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    for folder in (lock.parent, blob.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        last_size, held = -1, False
        while not held:
            try:
                stack.enter_context(WeakFileLock(lock, timeout=LOCK_POLL_S))
                held = True
            except Timeout:
                meter.cancel.check()
                size = sum(file.stat().st_size for file in blob.parent.glob(f"{blob.name}*"))
                if size != last_size:
                    meter.add(0)
                last_size = size
        yield


@dataclass(frozen=True)
class _PartialFile:
    """File at `path` to which the `total` bytes of an address are downloaded."""

    path: Path
    address: str
    total: int
    headers: Mapping[str, str]
    client: "httpx.Client"
    meter: DownloadMeter

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def complete(self) -> None:
        """Append until the file has its full size; retry after failures."""
        import httpx

        size = self.size()
        if size > self.total:
            self.path.unlink()
            size = 0
        self.meter.add(size)
        tries = TRIES
        while size < self.total:
            failure: httpx.HTTPError = httpx.RemoteProtocolError("the response ended too early")
            try:
                self._append()
            except httpx.TransportError as error:
                failure = error
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in RETRY_STATUS:
                    raise
                failure = error
            before, size = size, self.size()
            if size >= self.total:
                return
            tries = TRIES if size > before else tries - 1
            if tries <= 0:
                raise failure
            log.info("The connection failed at %d of %d bytes: %s", size, self.total, failure)
            self.meter.cancel.wait(0.0 if size > before else RETRY_WAIT_S)

    def _append(self) -> None:
        import httpx

        size = self.size()
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if size:
            headers["Range"] = f"bytes={size}-"
        with self.client.stream("GET", self.address, headers=headers) as response:
            resumed = response.status_code == 206
            if size and not resumed and response.status_code in (200, 416):
                self.path.unlink()  # the server cannot resume, or the file has changed
                self.meter.add(-size)
            response.raise_for_status()
            content_range = response.headers.get("Content-Range", "")
            if resumed and not content_range.startswith(f"bytes {size}-"):
                raise httpx.RemoteProtocolError("the response has another range than requested")
            with self.path.open("ab") as file:
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)
                    self.meter.add(len(chunk))
                    if file.tell() > self.total:
                        return

    def is_valid(self, etag: str) -> bool:
        """Return whether the size, and the hash of a large file, are correct."""
        if self.size() != self.total:
            return False
        if len(etag) != 64:  # the etag of a small file is not its SHA-256
            return True
        digest = hashlib.sha256()
        with self.path.open("rb") as content:
            while chunk := content.read(64 * CHUNK_BYTES):
                digest.update(chunk)
                self.meter.add(0)
        return digest.hexdigest() == etag
