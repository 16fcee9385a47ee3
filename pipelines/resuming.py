"""One large file of a hub repository, brought into the Hugging Face cache, resumed if need be."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from pipelines.catalogue import ModelSpec
from pipelines.errors import WeightsError

log = logging.getLogger(__name__)

#: How often a connection that brought nothing is tried again.
TRIES = 4

#: Seconds without a byte after which a connection counts as broken.
READ_TIMEOUT_S = 10.0

#: Bytes between two reports of progress.
PIECE = 256 * 1024


def fetch_blob(
    spec: ModelSpec, name: str, endpoint: str, token: bool | None, count: Callable[[int], None]
) -> None:
    """Bring a file's content to its place in the cache; what an earlier try left is kept.

    Args:
        spec: whose file it is.
        name: the file's path in the repository.
        endpoint: the hub's address.
        token: False to send none, None for the one that is set.
        count: told of bytes that are there: first of those left by an earlier try, then as they
            come; negative where they turn out to be useless.

    Raises:
        WeightsError: the content is not what the hub says.
        httpx.HTTPError: the connection broke and stayed broken.
        HfHubHTTPError: the hub refused.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import WeakFileLock

    address = hf_hub_url(spec.repo, name, revision=spec.revision, endpoint=endpoint)
    facts = get_hf_file_metadata(address, token=token, endpoint=endpoint, timeout=10)
    if not facts.etag or facts.size is None:
        raise WeightsError(
            f"{endpoint} does not tell size and hash of {name} in {spec.repo}. "
            "If HF_ENDPOINT is a mirror, try another."
        )
    folder = Path(constants.HF_HUB_CACHE) / ("models--" + spec.repo.replace("/", "--")) / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    blob, part = folder / facts.etag, folder / f"{facts.etag}.part"
    with WeakFileLock(folder / f"{facts.etag}.part.lock"):
        if blob.is_file():
            count(facts.size)
            return
        headers = _headers(address, facts.location, token)
        _fill(part, facts.location, facts.size, headers, count)
        if len(facts.etag) == 64 and _sha256(part) != facts.etag:
            part.unlink()
            raise WeightsError(
                f"{name} of {spec.repo} came damaged (its hash is wrong) and was thrown away. "
                "Try again; if it stays so, HF_ENDPOINT names a broken mirror."
            )
        part.rename(blob)


def _headers(address: str, location: str, token: bool | None) -> dict[str, str]:
    """Return the headers for `location`; a token is for the hub, never for another host."""
    from urllib.parse import urlparse

    from huggingface_hub.utils import build_hf_headers

    same_host = urlparse(address).netloc == urlparse(location).netloc
    headers: dict[str, str] = build_hf_headers(token=token if same_host else False)
    return headers


def _fill(
    part: Path, location: str, size: int, headers: dict[str, str], count: Callable[[int], None]
) -> None:
    """Append to `part` until it holds `size` bytes."""
    import httpx

    have = part.stat().st_size if part.is_file() else 0
    if have > size:
        part.unlink()
        have = 0
    count(have)
    tries = TRIES
    while have < size:
        try:
            came = _append(part, location, have, headers, count)
        except httpx.TransportError as error:
            log.info("The connection broke at %d of %d bytes: %s", have, size, error)
            came = part.stat().st_size - have if part.is_file() else 0
            tries = TRIES if came > 0 else tries - 1
            if tries <= 0:
                raise
        have += came


def _append(
    part: Path, location: str, have: int, headers: dict[str, str], count: Callable[[int], None]
) -> int:
    """Ask for the bytes from `have` on and append them; returns by how much the file grew."""
    import httpx

    asked = {**headers, "Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(10.0, read=READ_TIMEOUT_S)
    with httpx.stream(
        "GET", location, headers=asked, timeout=timeout, follow_redirects=True
    ) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206
        if not resumed:  # a server that cannot resume sends all again
            count(-have)
        with part.open("ab" if resumed else "wb") as file:
            for piece in answer.iter_bytes(PIECE):
                file.write(piece)
                count(len(piece))
            return file.tell() - have


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
