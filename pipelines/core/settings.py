"""Flags and `SEESAY_*` environment variables, read once at the start."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, Literal

from pipelines.core.remote import Remote, read_remotes

ModelChoice = Literal["auto", "bundled", "hub"]
SourceChoice = Literal["hub", "modelscope"]
DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
DtypeChoice = Literal["auto", "float32", "bfloat16"]
DecoderChoice = Literal["apart", "inside"]
Quantization = Literal["none", "int8", "nf4"]

#: How a variable says yes and no.
_YES = frozenset({"1", "on", "yes", "true"})
_NO = frozenset({"0", "off", "no", "false"})

#: Where the Hugging Face hub itself answers; any other endpoint is a mirror.
HUB_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set from outside, with its default.

    Attributes:
        models: which checkpoint a tab starts with (README, "Models without the network").
        models_dir: folder of checkpoints, one sub-folder per model, or None.
        source: where weights are downloaded from.
        device: compute device, or "auto".
        dtype: floating-point type of the weights, or "auto" (decided by a self-test).
        quantization: bitsandbytes format that caption models are loaded in, or "none".
        host: address the server listens on.
        port: TCP port, 0 for a free one.
        memory_gb: memory budget of all loaded models; 0.0 means 70 % of what this machine has.
        cache_dir: what may be thrown away between two runs (text vectors).
        index: URI of the vector database of the Search tab; "" for a folder in `cache_dir`.
        index_hours: hours after which an index that nobody used is deleted; 0.0 for never.
        work_dir: uploads and results, deleted after a while.
        max_upload_mb: largest file taken, in megabytes (1e6 bytes).
        max_pixels_mp: largest image taken, in megapixels (1e6 pixels).
        max_video_s: longest video taken, in seconds.
        decoders: whether files are decoded in processes of their own.
        auth: "user:password" that visitors must give, or "".
        requests_per_minute: questions to models from one address within a minute; 0 for any.
        idle_minutes: minutes after which a model that nobody used is dropped, with all that it
            keeps, and what the index keeps in memory; 0.0 for never.
        grace_s: seconds that running requests get when the server is told to end.
        mcp: whether agents are served over the Model Context Protocol too.
        metrics: whether /metrics tells figures for Prometheus.
        remotes: models on servers elsewhere, with their keys.
        endpoint: the hub's address, `HF_ENDPOINT`.
        offline: whether `HF_HUB_OFFLINE` forbids the hub.
    """

    models: ModelChoice = "auto"
    models_dir: Path | None = None
    source: SourceChoice = "hub"
    device: DeviceChoice = "auto"
    dtype: DtypeChoice = "auto"
    quantization: Quantization = "none"
    host: str = "127.0.0.1"
    port: int = 7860
    memory_gb: float = 0.0
    cache_dir: Path = Path(tempfile.gettempdir()) / "seesay-cache"
    index: str = ""
    index_hours: float = 24.0
    work_dir: Path = Path(tempfile.gettempdir()) / "seesay-work"
    max_upload_mb: float = 200.0
    max_pixels_mp: float = 120.0
    max_video_s: float = 14_400.0
    decoders: DecoderChoice = "apart"
    auth: str = ""
    requests_per_minute: int = 0
    idle_minutes: float = 30.0
    grace_s: float = 20.0
    mcp: bool = False
    metrics: bool = False
    remotes: tuple[Remote, ...] = ()
    endpoint: str = HUB_ENDPOINT
    offline: bool = False

    @property
    def is_mirror(self) -> bool:
        """Whether the endpoint is not the hub itself; a mirror is never sent the token."""
        return self.endpoint.rstrip("/") != HUB_ENDPOINT

    @property
    def index_uri(self) -> str:
        """Where the vector database is."""
        return self.index or str(self.cache_dir / "index")


def read_settings(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    taken: Iterable[str] = (),
) -> Settings:
    """Read flags, then the environment, then the defaults, in that order of precedence.

    Args:
        argv: command-line arguments without the program's name.
        environ: environment; `os.environ` when None.
        taken: keys of models that a remote may not be named after.

    Raises:
        SystemExit: on a flag or a variable with a value that is not allowed, naming the choices.
    """
    env = os.environ if environ is None else environ
    parser = _parser(env)
    args = parser.parse_args(_from_environment(env, parser) + list(argv))
    if not (0 <= args.memory_gb < inf and 0 < args.max_upload_mb < inf):
        parser.error("--memory-gb must be 0 or more, --max-upload-mb more than 0")
    if not 0 < args.max_pixels_mp < inf:
        parser.error(f"--max-pixels-mp must be more than 0 but got {args.max_pixels_mp}")
    if not 0 < args.max_video_s < inf:
        parser.error(f"--max-video-s must be more than 0 but got {args.max_video_s}")
    if not (0 <= args.idle_minutes < inf and 0 <= args.grace_s < inf):
        parser.error("--idle-minutes and --grace-s must be 0 or more")
    if not 0 <= args.index_hours < inf:
        parser.error(f"--index-hours must be 0 or more but got {args.index_hours}")
    if args.requests_per_minute < 0:
        parser.error(f"--requests-per-minute must be 0 or more but got {args.requests_per_minute}")
    if args.auth and not all(args.auth.partition(":")):
        parser.error("--auth must be USER:PASSWORD, with neither of them empty")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port must be within 0..65535 but got {args.port}")
    if args.mcp and args.auth:
        parser.error("--mcp and --auth exclude each other: agents give no password")
    if args.mcp and find_spec("mcp") is None:
        parser.error("--mcp needs a package: pip install -r requirements.txt")
    if args.models_dir is not None and not args.models_dir.is_dir():
        parser.error(f"--models-dir must be an existing folder but got {args.models_dir}")
    values = dict(vars(args))
    flags, file = values.pop("remote"), values.pop("remotes_file")
    try:
        values["remotes"] = read_remotes(flags or (), file, env, taken=taken)
    except ValueError as error:
        parser.error(f"--remote: {error}")
    values["endpoint"] = env.get("HF_ENDPOINT", "").rstrip("/") or HUB_ENDPOINT
    values["offline"] = env.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return Settings(**values)


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="SeeSay: look at images and videos with language.",
        epilog="Each flag can also be given as a variable: --models-dir is SEESAY_MODELS_DIR. "
        "python app.py doctor tells what this machine can do, and what it lacks.",
        allow_abbrev=False,
    )
    _add_models(parser.add_argument)
    _add_server(parser.add_argument, env)
    _add_folders(parser.add_argument, env)
    _add_limits(parser.add_argument)
    _add_visitors(parser.add_argument)
    _add_services(parser.add_argument)
    return parser


def _add_models(add: Callable[..., Any]) -> None:
    add(
        "--models",
        choices=("auto", "bundled", "hub"),
        default="auto",
        help="what a tab starts with: the best there is, the demo model, the real one",
    )
    add("--models-dir", type=Path, help="folder of checkpoints, one per sub-folder")
    add("--source", choices=("hub", "modelscope"), default="hub", help="where weights come from")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="compute device")
    add(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="type of the weights; auto decides by the device and a self-test",
    )
    add(
        "--quantization",
        choices=("none", "int8", "nf4"),
        default="none",
        help="weights of caption models in 8 or 4 bits; needs bitsandbytes and accelerate",
    )


def _add_server(add: Callable[..., Any], env: Mapping[str, str]) -> None:
    add("--host", default=_default_host(env), help="address to listen on")
    add(
        "--port",
        type=int,
        default=env.get("GRADIO_SERVER_PORT") or 7860,
        help="TCP port; 0 takes a free one",
    )
    add(
        "--memory-gb",
        type=float,
        default=0.0,
        help="memory for all models together; 0 takes 70 %% of the machine's or GPU's memory",
    )


def _add_folders(add: Callable[..., Any], env: Mapping[str, str]) -> None:
    cache_root = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    temp = Path(tempfile.gettempdir())
    add(
        "--cache-dir",
        type=Path,
        default=cache_root / "seesay",
        help="folder of what is kept: vectors of texts, and the index of the Search tab (vectors, "
        "names and thumbnails of files)",
    )
    add(
        "--index",
        default="",
        metavar="URI",
        help="LanceDB database of the Search tab: a folder, s3://bucket/path, gs://, az:// or "
        "db://name; default: a folder in the cache",
    )
    add(
        "--index-hours",
        type=float,
        default=24.0,
        help="hours after which an index that nobody used is deleted; 0 keeps all",
    )
    add(
        "--work-dir",
        type=Path,
        default=temp / f"seesay-{_user()}",
        help="folder of uploads and results, which are deleted after an hour",
    )


def _add_limits(add: Callable[..., Any]) -> None:
    add("--max-upload-mb", type=float, default=200.0, help="largest file, in megabytes")
    add("--max-pixels-mp", type=float, default=120.0, help="largest image, in megapixels")
    add("--max-video-s", type=float, default=14_400.0, help="longest video, in seconds")
    add(
        "--decoders",
        choices=("apart", "inside"),
        default="apart",
        help="apart: files are decoded in processes of their own, so that a decoder that crashes "
        "or hangs costs one request",
    )


def _add_visitors(add: Callable[..., Any]) -> None:
    add(
        "--auth",
        default="",
        metavar="USER:PASSWORD",
        help="what visitors must give; better as SEESAY_AUTH, which no list of processes shows",
    )
    add(
        "--requests-per-minute",
        type=int,
        default=0,
        help="most questions to models from one address within a minute; 0 allows any number",
    )
    add(
        "--idle-minutes",
        type=float,
        default=30.0,
        help="minutes after which a model that nobody used is dropped, with what it and the index "
        "keep in memory; 0 keeps it",
    )
    add(
        "--grace-s",
        type=float,
        default=20.0,
        help="seconds that running requests get when the server is told to end",
    )


def _add_services(add: Callable[..., Any]) -> None:
    switch = argparse.BooleanOptionalAction
    add(
        "--mcp",
        action=switch,
        default=False,
        help="serve the endpoints to agents too, as MCP tools",
    )
    add("--metrics", action=switch, default=False, help="figures for Prometheus at /metrics")
    add(
        "--remote",
        action="append",
        metavar="NAME=URL",
        help="a model on an OpenAI-compatible server, by a name of your own; as often as there "
        "are such models. Its key comes from SEESAY_REMOTE_KEY",
    )
    add("--remotes-file", type=Path, help="TOML with more about such models; see README")


def _from_environment(env: Mapping[str, str], parser: argparse.ArgumentParser) -> list[str]:
    """Turn `SEESAY_MODELS_DIR=x` into `--models-dir x`, so that both are checked alike."""
    found = []
    for action in parser._actions:
        flag = action.option_strings[0]
        name = "SEESAY_" + flag.removeprefix("--").replace("-", "_").upper()
        value = env.get(name)
        if not value or action.dest == "help":
            continue
        if action.dest == "remote":
            found += [f"{flag}={one}" for one in value.split()]
        elif action.nargs != 0:
            found.append(f"{flag}={value}")
        elif value.lower() in _YES | _NO:
            found.append(flag if value.lower() in _YES else flag.replace("--", "--no-"))
        else:
            parser.error(f"{name} must be 1 or 0 but got {value!r}")
    return found


def _default_host(env: Mapping[str, str]) -> str:
    """Return the loopback address, or every address where a Space runs us."""
    return env.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if env.get("SPACE_ID") else "127.0.0.1")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
