"""The page's languages: which is chosen, how texts are found, and that no text lacks one."""

import ast
import json
import re
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from components.render.html import TEMPLATES, paragraph
from components.render.scores import notices
from components.server import translate
from components.server.translate import (
    FOLDER,
    LANGUAGES,
    chosen_language,
    said_props,
    say,
    speaking,
    table,
    translated,
)
from pipelines.core.errors import InputError
from pipelines.core.messages import Message, joined
from tests.spoken_texts import built_errors, spoken_texts
from tests.support.app_process import RunningApp
from tests.support.raw_http import http, post, upload

TABLE = table("zh")

#: Texts that the walk of the source does not take for words: single words in lower case, which
#: look like names of things, and the default of a joint.
SHORT = {
    "match", "unsure", "image", "text", "right", "up", "down", "grow", "shrink",
    "appear", "disappear", "spin", "bounce", "still",
    "labels", "texts", "images", "question", "prompt", "query", "caption", "{first}, {rest}",
}  # fmt: skip


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("ZH", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr,de;q=0.9", "en"),
        ("fr, zh;q=0.5, en;q=0.4", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=much, ;;;,", "en"),
        ("*", "en"),
    ],
)
def test_the_language_is_what_the_browser_prefers(accepted: str, chosen: str) -> None:
    assert chosen_language(accepted) == chosen


def test_every_text_has_a_translation() -> None:
    lacking = {text: name for text, name in spoken_texts().items() if text not in TABLE}
    assert lacking == {}


def test_the_source_has_texts() -> None:
    texts = spoken_texts()
    assert len(texts) > 300
    assert {"Classify", "The question is empty. Ask something about the image."} <= texts.keys()
    of_errors = "On this Space nothing is computed ahead: ask, and the work begins."
    assert texts[of_errors] == "pipelines/serving/zero_gpu.py", (
        "errors of modules that say nothing else"
    )


def test_no_translation_is_left_over() -> None:
    assert TABLE.keys() - spoken_texts().keys() == SHORT


def test_errors_are_made_of_templates() -> None:
    """An f-string has no template: nothing would translate it."""
    assert built_errors() == []


def fields(text: str) -> set[tuple[str, str, str]]:
    found = Formatter().parse(text)
    return {(name, spec or "", how or "") for _, name, spec, how in found if name is not None}


def test_a_translation_names_the_values_of_its_text() -> None:
    plain = "How each label becomes a text. Or write your own, with {} for the label."
    for text, said in TABLE.items():
        if text != plain:
            assert fields(text) == fields(said), text
            assert "" not in {name for name, *_ in fields(text)}, text


def test_a_translation_is_chinese() -> None:
    english = [text for text in TABLE if len(text) > 40 and not re.search("[一-鿿]", TABLE[text])]
    assert english == []


def chinese(text: str, **values: object) -> str:
    with speaking("zh"):
        return say(text, **values)


def test_english_is_left_alone() -> None:
    assert say("Classify") == "Classify"
    assert say("{count:,} files deleted.", count=1000) == "1,000 files deleted."


def test_a_known_text_is_said_and_an_unknown_one_kept() -> None:
    assert chinese("Classify") == "分类"
    assert chinese("an unheard-of sentence") == "an unheard-of sentence"
    assert chinese("") == ""


def test_values_are_filled_in_by_name() -> None:
    told = Message("{shown} of the {total} frames", shown=3, total=64)
    assert translated(told, {told.template: "{total} 帧中的 {shown} 帧"}) == "64 帧中的 3 帧"
    assert translated(told, {}) == told


def test_messages_among_the_values_are_said_too() -> None:
    template = "{name} is missing. Upload or choose a file."
    assert chinese(template, name=Message("The picture")).startswith("缺少图片")
    template = "This part has only {what}, so little or no motion can be seen in it."
    assert chinese(template, what=Message("one frame")) == (
        "这一部分只有一帧，看不出或几乎看不出运动。"
    )


def test_what_a_visitor_typed_stays_inside_a_sentence() -> None:
    """A file called as a button of ours was translated where its name was repeated."""
    error = InputError("{name} is larger than the limit of {limit:.0f} MB.", name="Stop", limit=8)
    assert error.message == "Stop is larger than the limit of 8 MB."
    assert chinese(error.message) == "Stop 超过了 8 MB 的上限。"
    nested = Message("{first}, {rest}", first="Stop", rest=Message("Stop"))
    assert chinese(nested) == "Stop，停止"


class Unread(str):
    """A text that may be put into another, and looked at in no other way."""

    def __format__(self, spec: str) -> str:
        return f"{str.__len__(self)} characters"

    def _looked_at(self, *_: object) -> Any:
        raise AssertionError("a value was looked at")

    __contains__ = __getitem__ = __iter__ = __eq__ = __hash__ = _looked_at  # type: ignore[assignment]
    find = replace = split = partition = strip = startswith = _looked_at  # type: ignore[assignment]


def test_a_long_value_costs_a_lookup() -> None:
    """One text of 3.9 kB held up the event loop of all visitors for half a second."""
    given = Unread("x" * 3900)
    message = Message("{name} must be text but got {given}.", name=Message("labels"), given=given)
    assert chinese(message) == "标签（labels） 必须是文字，收到的是 3900 characters。"


def test_no_pattern_is_matched_where_texts_are_said() -> None:
    tree = ast.parse(Path(translate.__file__).read_text(encoding="utf-8"))
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported & {"re", "regex"} == set()


def test_a_list_is_said_item_by_item() -> None:
    named = joined([Message("a number"), "Stop", Message("a list")])
    assert named == "a number, Stop, a list"
    assert chinese(named) == "数字，Stop，列表"


@pytest.mark.parametrize(
    "words", ["a square moves left", "birth of a nation", "all frames", "a dog, a cat or a horse"]
)
def test_the_words_of_a_visitor_are_not_taken_for_ours(words: str) -> None:
    assert chinese(words) == words


def test_html_is_said_and_escaped() -> None:
    note = Message("{name} is damaged in the archive. Pack it again.", name="<Stop>")
    with speaking("zh"):
        assert say(paragraph("Stop")) == "<p class='empty'>停止</p>"
        assert notices([note]) == (
            "<p class='note'>&lt;Stop&gt; 在压缩包里已损坏。请重新打包。</p>"
        )


def test_a_translation_cannot_bring_marks_into_html() -> None:
    evil = Message("<b onclick='x'>")
    assert "<b" not in notices([evil])
    assert TEMPLATES.autoescape is True


def test_settings_are_said_and_choices_of_a_visitor_kept() -> None:
    with speaking("zh"):
        said = said_props(
            "dropdown",
            {
                "label": "Wording",
                "choices": [("None: the label as it is", ""), ("Rank", "Rank")],
                "value": "Rank",
            },
        )
    assert said == {
        "label": "措辞",
        "choices": [("无：直接使用标签", ""), ("Rank", "Rank")],
        "value": "Rank",
    }


def test_messages_are_said_and_values_of_visitors_kept() -> None:
    with speaking("zh"):
        assert said_props("html", {"value": paragraph("Stop")})["value"].endswith(">停止</p>")
        assert said_props("html", {"value": "Stop"})["value"] == "Stop"
        assert said_props("textbox", {"value": "Stop"})["value"] == "Stop"


def test_the_table_is_plain_json() -> None:
    assert list(TABLE) == sorted(TABLE), "sorted, so that changes are easy to review"
    assert LANGUAGES == ("en", "zh")
    assert Path(FOLDER / "zh.json").read_text(encoding="utf-8").endswith("}\n")


def texts_of(url: str, language: str) -> str:
    response = http.get(f"{url}/config", headers={"accept-language": language})
    assert "Accept-Language" in response.headers["vary"]
    components = response.json()["components"]
    return json.dumps([c["props"] for c in components], ensure_ascii=False)


def test_the_page_is_in_the_language_of_each_visitor(running_app: RunningApp) -> None:
    for language, there, gone in (
        ("zh-CN,zh;q=0.9", "按“分类”", "press Classify"),
        ("en-US", "press Classify", "按“分类”"),
        ("zh", "按“分类”", "press Classify"),
        ("", "press Classify", "按“分类”"),
    ):
        texts = texts_of(running_app.url, language)
        assert there in texts
        assert gone not in texts


def test_errors_are_in_the_language_of_who_asks(running_app: RunningApp, red_circle: Path) -> None:
    picture = {"path": upload(running_app.url, red_circle), "meta": {"_type": "gradio.FileData"}}
    asked = [picture, "", "", "demo-clip"]
    chinese = post(running_app.url, "classify_image", asked, "zh-CN")
    english = post(running_app.url, "classify_image", asked)
    assert chinese["error"].startswith("标签（labels） 至少要有一条文本，但它是空的。")
    assert chinese["title"] == "请检查输入"
    assert english["title"] == "Check your input"
    assert re.search("[\u4e00-\u9fff]", english["error"]) is None


def test_what_scripts_receive_is_the_same_in_every_language(
    running_app: RunningApp, red_circle: Path
) -> None:
    picture = {"path": upload(running_app.url, red_circle), "meta": {"_type": "gradio.FileData"}}
    asked = [picture, "red circle\nblue square\nred circle", "", "demo-clip"]
    chinese = post(running_app.url, "classify_image", asked, "zh-CN")
    assert chinese == post(running_app.url, "classify_image", asked)
    assert "Given more than once" in json.dumps(chinese)
