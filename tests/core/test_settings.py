"""Settings: flags before environment before defaults, and bad values are named."""

from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.core.settings import HUB_ENDPOINT, Settings, read_settings


def test_defaults() -> None:
    settings = read_settings([], {})
    assert (settings.models, settings.host, settings.port) == ("auto", "127.0.0.1", 7860)
    assert settings.endpoint == HUB_ENDPOINT
    assert not settings.is_mirror
    assert not settings.offline


def test_a_flag_beats_the_environment() -> None:
    env = {"SEESAY_MODELS": "hub", "SEESAY_PORT": "9000"}
    assert read_settings([], env).models == "hub"
    settings = read_settings(["--models", "bundled"], env)
    assert (settings.models, settings.port) == ("bundled", 9000)


def test_a_folder_comes_through(tmp_path: Path) -> None:
    assert read_settings([], {"SEESAY_MODELS_DIR": str(tmp_path)}).models_dir == tmp_path


@pytest.mark.parametrize(
    ("argv", "env", "said"),
    [
        (["--models", "best"], {}, "invalid choice: 'best'"),
        ([], {"SEESAY_MODELS": "best"}, "invalid choice: 'best'"),
        (["--port", "http"], {}, "invalid int value: 'http'"),
        ([], {"GRADIO_SERVER_PORT": "http"}, "invalid int value: 'http'"),
        (["--memory-gb", "-1"], {}, "must be 0 or more"),
        ([], {"SEESAY_MEMORY_GB": "-1"}, "must be 0 or more"),
        (["--memory-gb", "nan"], {}, "must be 0 or more"),
        (["--memory-gb", "inf"], {}, "must be 0 or more"),
        (["--max-upload-mb", "nan"], {}, "more than 0"),
        (["--max-pixels-mp", "inf"], {}, "more than 0 but got inf"),
        (["--port", "70000"], {}, "within 0..65535 but got 70000"),
        ([], {"GRADIO_SERVER_PORT": "-3"}, "within 0..65535 but got -3"),
        ([], {"SEESAY_DTYPE": "--help"}, "invalid choice: '--help'"),
        (["--dtype", "float16"], {}, "invalid choice: 'float16'"),
        (["--max-upload-mb", "0"], {}, "more than 0"),
        (["--models-dir", "no/such/folder"], {}, "existing folder"),
        (["--model", "hub"], {}, "unrecognized arguments"),
        ([], {"SEESAY_METRICS": "maybe"}, "SEESAY_METRICS must be 1 or 0 but got 'maybe'"),
        (["--mcp", "--auth", "a:b"], {}, "--mcp and --auth exclude each other"),
        (["--metrics=1"], {}, "ignored explicit argument '1'"),
    ],
)
def test_a_bad_value_is_named(
    argv: list[str], env: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(argv, env)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_the_hub_s_own_variables() -> None:
    settings = read_settings([], {"HF_ENDPOINT": "https://mirror.example/", "HF_HUB_OFFLINE": "1"})
    assert settings.endpoint == "https://mirror.example"
    assert settings.is_mirror
    assert settings.offline


def test_a_space_listens_on_every_address() -> None:
    assert read_settings([], {"SPACE_ID": "someone/seesay"}).host == "0.0.0.0"
    assert read_settings([], {"GRADIO_SERVER_NAME": "10.0.0.5"}).host == "10.0.0.5"


#: Set by variables that others share, or by several flags at once.
OWN_WAY = {"endpoint", "offline", "remotes", "framed"}


def test_every_field_can_be_set_by_flag_and_by_variable(tmp_path: Path) -> None:
    """And a flag beats the variable, which beats the default, for each of them."""
    values = {
        "models": ("hub", "bundled"), "models_dir": (tmp_path, tmp_path.parent),
        "source": ("modelscope", "hub"), "device": ("cpu", "cuda"),
        "dtype": ("float32", "bfloat16"), "host": ("10.0.0.1", "::1"), "port": (1, 2),
        "memory_gb": (1.5, 2.5), "cache_dir": (tmp_path / "a", tmp_path / "b"),
        "work_dir": (tmp_path / "c", tmp_path / "d"), "max_upload_mb": (3.0, 4.0),
        "max_pixels_mp": (5.0, 6.0),
        "max_video_s": (60.0, 90.0),
        "quantization": ("int8", "nf4"), "decoders": ("inside", "apart"),
        "auth": ("a:b", "c:d"), "requests_per_minute": (5, 6), "idle_minutes": (7.0, 8.0),
        "grace_s": (9.0, 10.0), "index": ("s3://bucket/index", "index"),
        "index_hours": (1.5, 0.0),
    }  # fmt: skip
    switches = {"mcp", "metrics"}
    lists = {"allowed_hosts", "allowed_origins"}
    assert set(values) | switches | lists == {f.name for f in fields(Settings)} - OWN_WAY
    default = read_settings([], {})
    for name, (first, second) in values.items():
        flag, variable = "--" + name.replace("_", "-"), f"SEESAY_{name.upper()}"
        env = {variable: str(first)}
        assert getattr(read_settings([], env), name) == first != getattr(default, name)
        assert getattr(read_settings([flag, str(second)], env), name) == second
        assert getattr(read_settings([f"{flag}={second}"], {}), name) == second
        assert read_settings([], {variable: ""}) == default, "empty is not set"


@pytest.mark.parametrize("name", ["allowed_hosts", "allowed_origins"])
def test_several_values_are_separated_by_blanks(name: str) -> None:
    flag, variable = "--" + name.replace("_", "-"), f"SEESAY_{name.upper()}"
    assert getattr(read_settings([], {variable: "a b"}), name) == ("a", "b")
    assert getattr(read_settings([flag, "c", "d"], {variable: "a b"}), name) == ("c", "d")
    assert getattr(read_settings([], {variable: ""}), name) == ()


@pytest.mark.parametrize("name", ["mcp", "metrics"])
def test_switches_are_off_unless_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.core.settings.find_spec", lambda name: object())
    variable = f"SEESAY_{name.upper()}"
    assert not getattr(read_settings([], {}), name)
    assert getattr(read_settings([f"--{name}"], {}), name)
    for value in ("1", "true", "Yes", "on"):
        assert getattr(read_settings([], {variable: value}), name)
        assert not getattr(read_settings([f"--no-{name}"], {variable: value}), name)
    for value in ("", "0", "false", "no", "off"):
        assert not getattr(read_settings([], {variable: value}), name)
        assert getattr(read_settings([f"--{name}"], {variable: value}), name)


def test_without_its_package_mcp_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.core.settings.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        read_settings(["--mcp"], {})
    assert "pip install -r requirements.txt" in capsys.readouterr().err
    assert not read_settings([], {}).mcp


def test_ours_beats_gradio_s_variables() -> None:
    env = {"GRADIO_SERVER_PORT": "9000", "GRADIO_SERVER_NAME": "10.0.0.5"}
    assert read_settings([], env).port == 9000
    env |= {"SEESAY_PORT": "9001", "SEESAY_HOST": "10.0.0.6"}
    assert (read_settings([], env).port, read_settings([], env).host) == (9001, "10.0.0.6")
    assert read_settings(["--port", "0"], env).port == 0


@pytest.mark.parametrize(
    ("endpoint", "mirror"),
    [
        ("https://huggingface.co", False),
        ("https://huggingface.co/", False),
        ("", False),
        ("https://hf-mirror.com", True),
        ("http://huggingface.co", True),
        ("https://huggingface.co.example.org", True),
    ],
)
def test_only_the_hub_itself_gets_the_token(endpoint: str, mirror: bool) -> None:
    assert read_settings([], {"HF_ENDPOINT": endpoint}).is_mirror is mirror


@pytest.mark.parametrize("value", ["", "0", "no", "false"])
def test_the_hub_is_allowed_unless_forbidden(value: str) -> None:
    assert not read_settings([], {"HF_HUB_OFFLINE": value}).offline


def test_caches_lie_where_the_system_keeps_them(tmp_path: Path) -> None:
    assert read_settings([], {"XDG_CACHE_HOME": str(tmp_path)}).cache_dir == tmp_path / "seesay"
    assert read_settings([], {}).cache_dir == Path.home() / ".cache" / "seesay"
