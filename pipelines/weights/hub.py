"""One file of a hub repository, brought into the Hugging Face cache, resumed if need be."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.errors import WeightsError
from pipelines.core.spec import ModelSpec
from pipelines.weights.progress import DownloadMeter

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: How often a connection that brings nothing is tried again, and after how many seconds.
TRIES = 4
RETRY_WAIT_S = 1.0

#: Seconds that a server has to begin an answer; seconds without a byte that break a connection.
ASK_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0

#: Answers after which the same question is asked once more.
PASSING_ERRORS = frozenset({408, 416, 429, 500, 502, 503, 504})

#: Seconds between two looks at a file that another process is fetching.
LOCK_POLL_S = 1.0

#: Bytes between two reports of progress.
PIECE = 256 * 1024


def fetch_file(
    spec: ModelSpec,
    name: str,
    endpoint: str,
    token: bool | None,
    client: "httpx.Client",
    meter: DownloadMeter,
) -> None:
    """Bring a file's content to its place in the cache; what an earlier try left is kept.

    Args:
        spec: whose file it is.
        name: the file's path in the repository.
        endpoint: the hub's address.
        token: False to send none, None for the one that is set.
        client: makes the requests, and leaves the token out where it is led to another host.
        meter: told of bytes that are there: first of those left by an earlier try.

    Raises:
        WeightsError: the content is not what the hub says.
        Cancelled: nobody waits for it any more.
        httpx.HTTPError: the connection broke and stayed broken.
        HfHubHTTPError: the hub refused.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    address = hf_hub_url(spec.repo, name, revision=spec.revision, endpoint=endpoint)
    facts = get_hf_file_metadata(address, token=token, endpoint=endpoint, timeout=ASK_TIMEOUT_S)
    meter.add(0)
    if not facts.etag or facts.size is None or Path(facts.etag).name != facts.etag:
        raise WeightsError(
            "{source} does not give size and hash of {file} in {repo}. If HF_ENDPOINT is a "
            "mirror, try another.",
            source=endpoint,
            file=name,
            repo=spec.repo,
        )
    cache, repository = Path(constants.HF_HUB_CACHE), "models--" + spec.repo.replace("/", "--")
    blob = cache / repository / "blobs" / facts.etag
    # the library's own lock, so that other programs wait for us and we for them
    lock = cache / ".locks" / repository / f"{facts.etag}.lock"
    with _alone(lock, blob, meter):
        if blob.is_file() and blob.stat().st_size == facts.size:
            meter.add(facts.size)
            return
        part = blob.with_name(f"{facts.etag}.part")
        _fill(part, address, facts.size, build_hf_headers(token=token), client, meter)
        if not _is_right(part, facts.size, facts.etag, meter):
            part.unlink()
            raise WeightsError(
                "{file} of {repo} came damaged (its hash is wrong) and was thrown away. Try "
                "again; if it stays so, HF_ENDPOINT names a broken mirror.",
                file=name,
                repo=spec.repo,
            )
        part.replace(blob)


@contextmanager
def _alone(lock: Path, blob: Path, meter: DownloadMeter) -> Iterator[None]:
    """Hold `lock`; while another process has it, its growing file counts as a sign of life."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    for folder in (lock.parent, blob.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        seen, held = -1, False
        while not held:
            try:
                stack.enter_context(WeakFileLock(lock, timeout=LOCK_POLL_S))
                held = True
            except Timeout:
                meter.cancel.check()
                there = sum(file.stat().st_size for file in blob.parent.glob(f"{blob.name}*"))
                if there != seen:
                    meter.add(0)
                seen = there
        yield


def _fill(
    part: Path,
    address: str,
    size: int,
    headers: Mapping[str, str],
    client: "httpx.Client",
    meter: DownloadMeter,
) -> None:
    """Append to `part` until it holds `size` bytes."""
    import httpx

    have = _size(part)
    if have > size:
        part.unlink()
        have = 0
    meter.add(have)
    tries = TRIES
    while have < size:
        failure: httpx.HTTPError = httpx.RemoteProtocolError("the answer ended too early")
        try:
            _append(part, address, size, headers, client, meter)
        except httpx.TransportError as error:
            failure = error
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in PASSING_ERRORS:
                raise
            failure = error
        before, have = have, _size(part)
        if have >= size:
            return
        tries = TRIES if have > before else tries - 1
        if tries <= 0:
            raise failure
        log.info("The connection broke at %d of %d bytes: %s", have, size, failure)
        meter.cancel.wait(0.0 if have > before else RETRY_WAIT_S)


def _append(
    part: Path,
    address: str,
    size: int,
    headers: Mapping[str, str],
    client: "httpx.Client",
    meter: DownloadMeter,
) -> None:
    """Ask for the bytes that `part` lacks, and append what comes."""
    import httpx

    have = _size(part)
    asked = {**headers, "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    with client.stream("GET", address, headers=asked) as answer:
        resumed = answer.status_code == 206
        if have and not resumed and answer.status_code in (200, 416):
            part.unlink()  # the server cannot resume, or what is here is not of this file
            meter.add(-have)
        answer.raise_for_status()
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise httpx.RemoteProtocolError("other bytes came than were asked for")
        with part.open("ab") as file:
            for piece in answer.iter_bytes(PIECE):
                file.write(piece)
                meter.add(len(piece))
                if file.tell() > size:
                    return


def _is_right(part: Path, size: int, etag: str, meter: DownloadMeter) -> bool:
    """Whether size and, where the hub tells it, hash are those of the file."""
    if _size(part) != size:
        return False
    if len(etag) != 64:  # small files carry a hash of another kind
        return True
    digest = hashlib.sha256()
    with part.open("rb") as content:
        while piece := content.read(64 * PIECE):
            digest.update(piece)
            meter.add(0)
    return digest.hexdigest() == etag


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
