"""Links to files that were uploaded to this very app, as an agent's own tools hand them on."""

from typing import Any
from urllib.parse import unquote, urlsplit

#: Where gradio serves uploads.
_SERVED = "/gradio_api/file="

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})


def own_links(inputs: Any, local_url: str | None) -> Any:
    """Return the inputs of a request with links to this app's own uploads as files.

    SeeSay fetches a link that comes as a file, but never from this machine, so an upload to an
    app on one's own machine could not be named by its link. The path that comes of it is
    checked like any other that a request names.

    Args:
        inputs: what a request holds, of any depth.
        local_url: where this app listens, None as long as it does not.
    """
    if local_url is None:
        return inputs
    if isinstance(inputs, list):
        return [own_links(value, local_url) for value in inputs]
    if not isinstance(inputs, dict):
        return inputs
    path = _own_path(inputs.get("path"), local_url)
    if path and isinstance(inputs.get("meta"), dict):
        return {**inputs, "path": path, "url": None}
    return {key: own_links(value, local_url) for key, value in inputs.items()}


def _own_path(link: Any, local_url: str) -> str:
    """Return the path that a link to this app names, "" where it is no such link."""
    if not isinstance(link, str) or not link.startswith(("http://", "https://")):
        return ""
    try:
        asked, ours = urlsplit(link), urlsplit(local_url)
        same = asked.port == ours.port and asked.hostname in _LOOPBACK | {ours.hostname}
    except ValueError:  # a port that is no number
        return ""
    served = asked.path.startswith(_SERVED)
    return unquote(asked.path.removeprefix(_SERVED)) if same and served else ""
