"""Remote models by flags, file and environment: what is taken, what is refused, where keys go."""

import re
from pathlib import Path

import pytest

from pipelines.core.remote import Remote
from pipelines.core.settings import Settings, read_settings
from pipelines.models.catalogue import CATALOGUE
from pipelines.serving.store import PipelineStore
from tests.support.app_process import ROOT

KEY = "sk-very-secret-0123456789"


def remotes(*argv: str, **env: str) -> tuple[Remote, ...]:
    return read_settings(argv, env, taken=CATALOGUE).remotes


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://host.example/v1/", "https://host.example/v1"),
        ("https://host.example/api/v3", "https://host.example/api/v3"),
        ("http://[::1]:9/v1/chat/completions", "http://[::1]:9/v1"),
    ],
)
def test_addresses(given: str, url: str) -> None:
    (remote,) = remotes("--remote", f"qwen-7b={given}")
    assert (remote.name, remote.url) == ("qwen-7b", url)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("qwen", "NAME=URL"),
        ("qwen=", "http:// or https://"),
        ("qwen=ftp://host", "http:// or https://"),
        ("qwen=file:///etc/passwd", "http:// or https://"),
        ("qwen=host:8000", "http:// or https://"),
        ("qwen=http://", "http:// or https://"),
        ("qwen=http://host:notaport", "is no address"),
        (f"qwen=http://user:{KEY}@host", "holds a user or a password"),
        (f"qwen=https://{KEY}@host/v1", "holds a user or a password"),
        (f"qwen=http://host/v1?key={KEY}", "without ?, #"),
        ("qwen=http://ho st", "without ?, # or blanks"),
        ("Qwen=http://host", "small letters"),
        ("qwen--7b=http://host", "small letters"),
        (f"http://user:{KEY}@host", "NAME=URL"),
        ("demo-blip2=http://host", "name of another model"),
    ],
)
def test_what_is_no_remote_is_refused(
    flag: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        remotes("--remote", flag)
    said = capsys.readouterr().err
    assert told in said
    assert KEY not in said


def test_several_by_flags_and_by_a_variable(capsys: pytest.CaptureFixture[str]) -> None:
    two = remotes("--remote", "a=http://h", "--remote=b=http://h:1")
    assert [one.name for one in two] == ["a", "b"]
    assert remotes(SEESAY_REMOTE="a=http://h b=http://h:1") == two
    with pytest.raises(SystemExit):
        remotes("--remote", "a=http://h", "--remote", "a=http://h:1")
    assert "given twice" in capsys.readouterr().err


def test_a_key_goes_to_one_server_only(capsys: pytest.CaptureFixture[str]) -> None:
    same = ("--remote", "a=http://h:1", "--remote", "b=http://h:1/v2")
    assert [one.key for one in remotes(*same, SEESAY_REMOTE_KEY=KEY)] == [KEY, KEY]
    several = ("--remote", "a-1.5=http://h:1", "--remote", "b=http://h:2")
    with pytest.raises(SystemExit):
        remotes(*several, SEESAY_REMOTE_KEY=KEY)
    said = capsys.readouterr().err
    assert "several servers" in said
    assert KEY not in said
    own = remotes(*several, SEESAY_REMOTE_KEY_A_1_5=KEY)
    assert [one.key for one in own] == [KEY, ""]
    with pytest.raises(SystemExit):
        remotes("--remote", "a=http://h", SEESAY_REMOTE_KEY="two\nlines")
    assert "two" not in capsys.readouterr().err


def test_a_key_is_in_no_description() -> None:
    settings = read_settings(["--remote", "a=http://h"], {"SEESAY_REMOTE_KEY": KEY})
    assert settings.remotes[0].key == KEY
    assert KEY not in repr(settings) + repr(PipelineStore(settings).models)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "remotes.toml"
    file.write_text(
        '[qwen-72b]\nurl = "http://h:1"\nmodel = "Qwen/Qwen2.5-VL-72B-Instruct"\n'
        'title = "Qwen2.5-VL 72B"\nvideos = "file"\nconcurrency = 32\ntimeout_s = 30\n'
        '[cogvlm]\nurl = "https://h"\nvideos = "none"\nlicence = "Apache-2.0"\n',
        "utf-8",
    )
    qwen, cogvlm, flag = remotes(f"--remotes-file={file}", "--remote", "c=http://h:1")
    assert (qwen.model, qwen.videos, qwen.concurrency, qwen.timeout_s) == (
        "Qwen/Qwen2.5-VL-72B-Instruct",
        "file",
        32,
        30.0,
    )
    assert (cogvlm.licence, flag.name) == ("Apache-2.0", "c")
    store = PipelineStore(Settings(remotes=(qwen, cogvlm)))
    added = [spec for spec in store.models if spec.remote is not None]
    assert [(spec.key, spec.task, spec.memory_gb) for spec in added] == [
        ("qwen-72b", "caption", 0.0),
        ("cogvlm", "caption", 0.0),
        ("qwen-72b", "video-chat", 0.0),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]\n", "with a url"),
        ('a = "http://h"\n', "with a url"),
        ('[a]\nurl = "http://h"\nkey = "x"\n', "environment only"),
        ('[a]\nurl = "http://h"\nvideo = "file"\n', "no setting 'video'"),
        ('[a]\nurl = "http://h"\nvideos = "all"\n', "frames, file, none"),
        ('[a]\nurl = "http://h"\nconcurrency = 0\n', "within 1..256"),
        ('[a]\nurl = "http://h"\nconcurrency = "8"\n', "of another type"),
        ('[a]\nurl = "http://h"\ntimeout_s = true\n', "of another type"),
        ("[a\n", "is no TOML"),
    ],
)
def test_what_is_no_file_of_remotes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "a.toml").write_text(text, "utf-8")
    with pytest.raises(SystemExit):
        remotes(f"--remotes-file={tmp_path / 'a.toml'}")
    assert told in capsys.readouterr().err


def test_the_file_of_the_manual(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "remote.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "remotes.toml").write_text(text, "utf-8")
    (remote,) = remotes(f"--remotes-file={tmp_path / 'remotes.toml'}")
    defaults = Remote(name="a", url="http://h")
    for name in ("videos", "max_frames", "concurrency", "timeout_s"):
        assert getattr(remote, name) == getattr(defaults, name)
    assert remote.key_variable in page


def test_what_a_tab_starts_with() -> None:
    remote = Remote(name="a", url="http://h")
    auto = PipelineStore(Settings(models="auto", offline=True, remotes=(remote,)))
    assert (auto.default_spec("caption").key, auto.default_spec("video-chat").key) == ("a", "a")
    assert auto.default_spec("image-text").remote is None
    bundled = PipelineStore(Settings(models="bundled", remotes=(remote,)))
    assert bundled.default_spec("caption").key == "demo-blip2"
    assert bundled.resolve("a", "video-chat").task == "video-chat"


def test_no_key_is_that_of_two_servers(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--remote", "qwen-7=http://one.example", "--remote", "qwen.7=http://two.example")
    with pytest.raises(SystemExit):
        remotes(*given, SEESAY_REMOTE_KEY_QWEN_7="sk-one")
    told = capsys.readouterr().err
    assert "would be the key of two servers" in told
    assert "sk-one" not in told
    assert len(remotes(*given)) == 2
