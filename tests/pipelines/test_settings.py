"""Settings: flags before environment before defaults, and bad values are named."""

from pathlib import Path

import pytest

from pipelines.settings import HUB_ENDPOINT, read_settings


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
        (["--max-upload-mb", "0"], {}, "more than 0"),
        (["--models-dir", "no/such/folder"], {}, "existing folder"),
        (["--model", "hub"], {}, "unrecognized arguments"),
    ],
)
def test_a_bad_value_is_named(
    argv: list[str], env: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_settings(argv, env)
    assert said in capsys.readouterr().err


def test_the_hub_s_own_variables() -> None:
    settings = read_settings([], {"HF_ENDPOINT": "https://mirror.example/", "HF_HUB_OFFLINE": "1"})
    assert settings.endpoint == "https://mirror.example"
    assert settings.is_mirror
    assert settings.offline


def test_a_space_listens_on_every_address() -> None:
    assert read_settings([], {"SPACE_ID": "someone/seesay"}).host == "0.0.0.0"
    assert read_settings([], {"GRADIO_SERVER_NAME": "10.0.0.5"}).host == "10.0.0.5"
