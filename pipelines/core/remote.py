"""Remote models from flags, a TOML file and the environment."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

#: Form in which videos are sent: images of the frames, the file, or not at all.
Videos = Literal["frames", "file", "none"]

#: Allowed names of remote models.
NAME = re.compile(r"[a-z0-9.]+(-[a-z0-9.]+)*")

#: Variable with the key of the only server; `KEY_VARIABLE_<NAME>` holds the key of one model.
KEY_VARIABLE = "SEESAY_REMOTE_KEY"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Model on a remote server.

    Attributes:
        name: key in pickers and scripts.
        url: address of the server's API; /v1 is added to a URL without a path.
        model: name of the model on the server; "" for the first one that it lists.
        title: title in the picker; "" for the name.
        licence: licence of the model.
        videos: form in which videos are sent: "frames", "file" (as `video_url`), or "none".
        max_frames: maximum number of frames of a video in one question.
        concurrency: maximum number of concurrent batch requests.
        timeout_s: seconds without data after which a request fails.
        key: bearer token, sent to `url` only; "" for none.

    Raises:
        ValueError: a value is not allowed.
    """

    name: str
    url: str
    model: str = ""
    title: str = ""
    licence: str = "set by its server"
    videos: Videos = "frames"
    max_frames: int = 32
    concurrency: int = 8
    timeout_s: float = 120.0
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                "the name of a remote must be small letters, digits, dots and single hyphens, "
                f"such as qwen-7b, but got {self.name[:80]!r}"
            )
        object.__setattr__(self, "url", _checked_url(self.name, self.url))
        if self.videos not in get_args(Videos):
            raise ValueError(
                f"videos of the remote {self.name} must be one of "
                f"{', '.join(get_args(Videos))} but got {self.videos!r}"
            )
        ranges = {"max_frames": (1, 1024), "concurrency": (1, 256), "timeout_s": (0.1, 3600)}
        for setting, (low, high) in ranges.items():
            value = getattr(self, setting)
            if isinstance(value, bool) or not low <= value <= high:
                raise ValueError(
                    f"{setting} of the remote {self.name} must be within {low}..{high} "
                    f"but got {value!r}"
                )
        if not (self.key.isascii() and self.key.isprintable()) or " " in self.key:
            raise ValueError(f"the key of the remote {self.name} holds characters that no key has")

    @property
    def host(self) -> str:
        """Host and port of the server."""
        return urlsplit(self.url).netloc

    @property
    def origin(self) -> str:
        """Scheme, host and port; the key is sent to this origin only."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def shown(self) -> str:
        """Name in messages."""
        return f"{self.name} ({self.host})"

    @property
    def key_variable(self) -> str:
        """Environment variable with the key of this model."""
        return f"{KEY_VARIABLE}_{re.sub('[^A-Z0-9]', '_', self.name.upper())}"


def read_remotes(
    flags: Iterable[str], file: Path | None, env: Mapping[str, str], taken: Iterable[str] = ()
) -> tuple[Remote, ...]:
    """Return the remote models with their keys.

    `flags` are texts of the form NAME=URL, `file` is TOML with one table per remote model, `env`
    holds the keys, `taken` are names of other models.

    Raises:
        ValueError: a value is not allowed; the message holds no key.
    """
    remotes = [*_from_file(file), *(_from_flag(flag) for flag in flags)]
    names = [remote.name for remote in remotes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the remote {name} is given twice; give each a name of its own")
        if name in set(taken):
            raise ValueError(f"{name} is the name of another model; give the remote its own name")
    return with_keys(remotes, env)


def with_keys(remotes: Sequence[Remote], env: Mapping[str, str]) -> tuple[Remote, ...]:
    """Return remotes with their keys from an environment; raises like `read_remotes`."""
    origins: dict[str, str] = {}
    for remote in remotes:
        origin = origins.setdefault(remote.key_variable, remote.origin)
        if origin != remote.origin and env.get(remote.key_variable):
            raise ValueError(
                f"{remote.key_variable} would be the key of two servers, {origin} and "
                f"{remote.origin}; give their remotes names that differ in letters or digits"
            )
    return tuple(_with_key(remote, remotes, env) for remote in remotes)


def without_keys(remotes: Sequence[Remote]) -> tuple[Remote, ...]:
    """Return remotes without their keys, to be sent to other machines."""
    return tuple(replace(remote, key="") for remote in remotes)


def _from_flag(flag: str) -> Remote:
    name, equals, url = flag.partition("=")
    if not equals:
        raise ValueError(
            "a remote must be NAME=URL, such as qwen=http://127.0.0.1:8000, "
            f"but got {_without_secrets(flag)!r}"
        )
    return Remote(name=name.strip(), url=url.strip())


def _from_file(file: Path | None) -> list[Remote]:
    if file is None:
        return []
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file of remotes {file} cannot be read") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the file of remotes {file} is no TOML: {error}") from error
    return [_from_table(name, table) for name, table in tables.items()]


def _from_table(name: str, table: Any) -> Remote:
    known = [one.name for one in fields(Remote) if one.name not in {"name", "key"}]
    if not isinstance(table, dict) or not isinstance(table.get("url"), str):
        raise ValueError(f"the remote {name} must be a table with a url")
    if "key" in table:
        raise ValueError(
            f"the remote {name} has a key in the file; keys come from the environment only: "
            f"{KEY_VARIABLE}_NAME"
        )
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(
            f"the remote {name} has no setting {unknown[0]!r}; there are {', '.join(known)}"
        )
    values = dict(table)
    for setting, value in values.items():
        expected = type(getattr(Remote, setting, ""))
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            values[setting] = float(value)
        elif not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"{setting} of the remote {name} must be of another type: {value!r}")
    return Remote(name=name, **values)


def _with_key(remote: Remote, remotes: Sequence[Remote], env: Mapping[str, str]) -> Remote:
    key = env.get(remote.key_variable, "").strip()
    if not key and (shared := env.get(KEY_VARIABLE, "").strip()):
        if len({other.origin for other in remotes}) > 1:  # a shared key goes to one server only
            raise ValueError(
                f"{KEY_VARIABLE} would be sent to several servers. Set a key for each instead, "
                f"such as {remote.key_variable}, or an empty {KEY_VARIABLE}"
            )
        key = shared
    return replace(remote, key=key)


def _checked_url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the address of the remote {name} is no address") from error
    if "@" in parts.netloc:
        raise ValueError(
            f"the address of the remote {name} holds a user or a password. Leave them out; a key "
            f"comes from the environment: {KEY_VARIABLE}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(
            f"the address of the remote {name} must be http:// or https:// with a host, such as "
            f"http://127.0.0.1:8000, but got {_without_secrets(url)!r}"
        )
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"the address of the remote {name} must be plain, without ?, # or blanks")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _without_secrets(text: str) -> str:
    """Return a text without user, password and query, at most 80 characters."""
    return re.sub(r"//[^/]*@", "//…@", text.partition("?")[0])[:80]
