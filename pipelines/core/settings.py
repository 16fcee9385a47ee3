"""Settings from flags and `SEESAY_*` environment variables."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.core.remote import Remote, read_remotes

ModelChoice = Literal["auto", "bundled", "hub"]
SourceChoice = Literal["hub", "modelscope"]
DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
DtypeChoice = Literal["auto", "float32", "bfloat16"]
DecoderChoice = Literal["apart", "inside"]
Quantization = Literal["none", "int8", "nf4"]

#: Values of a variable for a switch.
_YES = frozenset({"1", "on", "yes", "true"})
_NO = frozenset({"0", "off", "no", "false"})

#: Address of the Hugging Face hub; any other endpoint is a mirror.
HUB_ENDPOINT = "https://huggingface.co"

#: Conditions on a value by their text in the error message.
_CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "0 or more": lambda value: 0 <= value < inf,
    "more than 0": lambda value: 0 < value < inf,
    "within 0..65535": lambda value: 0 <= value <= 65535,
    "an existing folder": lambda value: value is None or value.is_dir(),
}


def _flag(default: Any, text: str, must_be: str = "", metavar: str | None = None) -> Any:
    """Return a field with the help `text` of its flag; `must_be` is a key of `_CONDITIONS`."""
    return field(default=default, metadata={"help": text, "must_be": must_be, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings.

    Flags, variables, checks and the table of the manual come from the fields: a `Literal` has
    choices, a `bool` is a switch. The fields without a flag are documented here.

    Attributes:
        remotes: remote models with their keys; flags `--remote`, `--remotes-file`.
        endpoint: address of the hub, `HF_ENDPOINT`.
        offline: whether `HF_HUB_OFFLINE` is set.
        framed: whether another site shows the page in a frame, as the hub does with a Space.
    """

    models: ModelChoice = _flag(
        "auto", "model a tab starts with: the best available one, the demo model, the real one"
    )
    models_dir: Path | None = _flag(
        None, "folder of checkpoints, one per sub-folder", "an existing folder"
    )
    source: SourceChoice = _flag("hub", "where weights come from")
    device: DeviceChoice = _flag("auto", "compute device")
    dtype: DtypeChoice = _flag(
        "auto", "type of the weights; auto decides by the device and a self-test"
    )
    quantization: Quantization = _flag(
        "none", "weights of caption models in 8 or 4 bits; needs bitsandbytes and accelerate"
    )
    host: str = _flag("127.0.0.1", "address to listen on")
    port: int = _flag(7860, "TCP port; 0 takes a free one", "within 0..65535")
    memory_gb: float = _flag(
        0.0,
        "memory for all models together; 0 takes 70 %% of the machine's or GPU's memory",
        "0 or more",
    )
    cache_dir: Path = _flag(
        Path(tempfile.gettempdir()) / "seesay-cache",
        "folder of caches: vectors of texts, and the index of the Search tab (vectors, "
        "names and thumbnails of files)",
    )
    index: str = _flag(
        "",
        "LanceDB database of the Search tab: a folder, s3://bucket/path, gs://, az:// or "
        "db://name; default: a folder in the cache",
        metavar="URI",
    )
    index_hours: float = _flag(
        24.0, "hours without use after which an index is deleted; 0 keeps all", "0 or more"
    )
    work_dir: Path = _flag(
        Path(tempfile.gettempdir()) / "seesay-work",
        "folder of uploads and results, which are deleted after an hour",
    )
    max_upload_mb: float = _flag(200.0, "largest file, in megabytes", "more than 0")
    max_pixels_mp: float = _flag(120.0, "largest image, in megapixels", "more than 0")
    max_video_s: float = _flag(14_400.0, "longest video, in seconds", "more than 0")
    decoders: DecoderChoice = _flag(
        "apart",
        "apart: decode files in separate processes, so that a decoder that crashes or hangs costs "
        "one request",
    )
    auth: str = _flag(
        "",
        "login of visitors; as SEESAY_AUTH it stays out of the process list",
        metavar="USER:PASSWORD",
    )
    allowed_hosts: tuple[str, ...] = _flag(
        (),
        "names under which the app answers, beside loopback names; default: loopback names only "
        "if it listens on loopback, else any name; * for any",
        metavar="NAME",
    )
    allowed_origins: tuple[str, ...] = _flag(
        (),
        "other web sites whose pages may use the app, such as https://example.org; * for any",
        metavar="ORIGIN",
    )
    requests_per_minute: int = _flag(
        0,
        "most requests to models from one address per minute; 0 for no limit",
        "0 or more",
    )
    idle_minutes: float = _flag(
        30.0,
        "minutes without use after which a model is unloaded, with its caches and those of the "
        "index; 0 keeps it",
        "0 or more",
    )
    grace_s: float = _flag(20.0, "seconds that running requests get at shutdown", "0 or more")
    mcp: bool = _flag(False, "serve the endpoints to agents too, as MCP tools")
    metrics: bool = _flag(False, "figures for Prometheus at /metrics")
    remotes: tuple[Remote, ...] = ()
    endpoint: str = HUB_ENDPOINT
    offline: bool = False
    framed: bool = False

    @property
    def is_mirror(self) -> bool:
        """Return whether the endpoint is a mirror, which never receives the token."""
        return self.endpoint.rstrip("/") != HUB_ENDPOINT

    @property
    def index_uri(self) -> str:
        """URI of the vector database."""
        return self.index or str(self.cache_dir / "index")


def read_settings(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    taken: Iterable[str] = (),
) -> Settings:
    """Read the settings; flags precede variables, variables precede defaults.

    `argv` is without the program name; `environ` is `os.environ` when None; `taken` are model keys
    that are not allowed as names of remotes.

    Raises:
        SystemExit: a value is not allowed.
    """
    env = os.environ if environ is None else environ
    parser = make_parser(env)
    values = vars(parser.parse_args(_from_environment(env, parser) + list(argv)))
    if problem := _problem(values):
        parser.error(problem)
    values = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
    flags, file = values.pop("remote") or (), values.pop("remotes_file")
    try:
        values["remotes"] = read_remotes(flags, file, env, taken=taken)
    except ValueError as error:
        parser.error(f"--remote: {error}")
    values["endpoint"] = env.get("HF_ENDPOINT", "").rstrip("/") or HUB_ENDPOINT
    values["offline"] = env.get("HF_HUB_OFFLINE", "").lower() in _YES
    values["framed"] = bool(env.get("SPACE_ID"))
    return Settings(**values)


def make_parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all flags with the defaults of an environment."""
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="SeeSay: look at images and videos with language.",
        epilog="Each flag can also be given as a variable: --models-dir is SEESAY_MODELS_DIR. "
        "python app.py doctor reports what this machine can do, and what it lacks.",
        allow_abbrev=False,
    )
    defaults = _defaults(env)
    for one in _flags():
        default = defaults.get(one.name, one.default)
        parser.add_argument(_flag_of(one.name), default=default, **_options(one))
    parser.add_argument(
        "--remote",
        action="append",
        metavar="NAME=URL",
        help="model on an OpenAI-compatible server, under a name of your own; can be repeated. Its "
        "key comes from SEESAY_REMOTE_KEY",
    )
    parser.add_argument(
        "--remotes-file", type=Path, help="TOML with options of such models; see docs/remote.md"
    )
    return parser


def _flags() -> list[Field[Any]]:
    return [one for one in fields(Settings) if one.metadata]


def _flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def _options(one: Field[Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"help": one.metadata["help"]}
    if one.type is bool:
        return options | {"action": argparse.BooleanOptionalAction}
    if isinstance(one.default, tuple):
        return options | {"nargs": "+", "metavar": one.metadata["metavar"]}
    if isinstance(one.type, type):
        return options | {"type": one.type, "metavar": one.metadata["metavar"]}
    choices = get_args(one.type)
    return options | ({"type": Path} if Path in choices else {"choices": choices})


def _defaults(env: Mapping[str, str]) -> dict[str, Any]:
    host = "0.0.0.0" if env.get("SPACE_ID") else "127.0.0.1"
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return {
        "host": env.get("GRADIO_SERVER_NAME") or host,
        "port": env.get("GRADIO_SERVER_PORT") or Settings.port,
        "cache_dir": Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seesay",
        "work_dir": Path(tempfile.gettempdir()) / f"seesay-{user}",
    }


def _from_environment(env: Mapping[str, str], parser: argparse.ArgumentParser) -> list[str]:
    """Convert `SEESAY_MODELS_DIR=x` to `--models-dir=x`, so that both have the same checks."""
    found = []
    for action in parser._actions[1:]:  # the first is --help
        flag, name = action.option_strings[0], f"SEESAY_{action.dest.upper()}"
        value = env.get(name, "")
        if action.nargs != 0:
            if action.nargs == "+":
                several = value.replace(",", " ").split()
                found += [flag, *several] if several else []
                continue
            given = value.split() if action.dest == "remote" else [value] * bool(value)
            found += [f"{flag}={one}" for one in given]
        elif value.lower() in _YES | _NO:
            found.append(flag if value.lower() in _YES else flag.replace("--", "--no-"))
        elif value:
            parser.error(f"{name} must be 1 or 0 but got {value!r}")
    return found


def _problem(values: Mapping[str, Any]) -> str:
    for one in _flags():
        must_be, value = one.metadata["must_be"], values[one.name]
        if must_be and not _CONDITIONS[must_be](value):
            return f"{_flag_of(one.name)} must be {must_be} but got {value}"
    if values["auth"] and not all(values["auth"].partition(":")):
        return "--auth must be USER:PASSWORD, with neither of them empty"
    if values["mcp"] and values["auth"]:
        return "--mcp and --auth exclude each other: agents give no password"
    if values["mcp"] and find_spec("mcp") is None:
        return "--mcp needs a package: pip install -r requirements.txt"
    return ""
