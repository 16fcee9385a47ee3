"""The page's languages: which is chosen, how texts are found, and that no text lacks one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.server.translate import (
    FOLDER,
    LANGUAGES,
    Translator,
    chosen_language,
    say,
    say_html,
    speaking,
)
from components.server.translated_blocks import said_props
from pipelines.core.errors import InputError
from pipelines.core.messages import Message
from tests.spoken_texts import spoken_texts
from tests.support.app_process import RunningApp
from tests.support.raw_http import http, post, upload

TABLE: dict[str, str] = json.loads((FOLDER / "zh.json").read_text(encoding="utf-8"))

#: Texts that are put together from parts, so that the source does not hold them whole.
PUT_TOGETHER = {
    ",", ";", "or", "Captions ({})", "Without a caption ({})", "Done: {}", "Paused: {}",
    "Cancelled: {}", "Stopped: {}",
    # single words in lower case, which look like names of things in the source
    "match", "unsure", "image", "text", "photos", "right", "up", "down", "grow", "shrink",
    "appear", "disappear", "spin", "bounce", "still",
    # arguments of the endpoints
    "labels", "texts", "images", "question", "prompt", "query",
    # words and joints of messages
    "turn", "later", "caption", "{first}, {rest}", "{first} or {rest}", " ({reason})",
    "{first} {rest}",
}  # fmt: skip

_GAP = re.compile(r"\{\d*\}")


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
    assert TABLE.keys() - spoken_texts().keys() <= PUT_TOGETHER


@pytest.mark.parametrize("text", TABLE)
def test_a_translation_has_the_gaps_of_its_text(text: str) -> None:
    gaps = _GAP.findall(text)
    said = _GAP.findall(TABLE[text])
    if any(gap != "{}" for gap in said):
        assert "{}" not in said, "numbered and bare gaps do not mix"
        assert {int(gap[1:-1]) for gap in said} <= set(range(len(gaps)))
    else:
        assert len(said) == len(gaps)


@pytest.mark.parametrize("text", [text for text in TABLE if len(text) > 40])
def test_a_translation_is_chinese(text: str) -> None:
    assert re.search("[\u4e00-\u9fff]", TABLE[text])


def chinese(text: str) -> str:
    with speaking("zh"):
        return say(text)


def test_english_is_left_alone() -> None:
    assert say("Classify") == "Classify"
    assert say_html("<p title='Rank'>Rank &amp; more</p>") == "<p title='Rank'>Rank &amp; more</p>"


def test_a_known_text_is_said_and_an_unknown_one_kept() -> None:
    assert chinese("Classify") == "分类"
    assert chinese(" Classify ") == " 分类 "
    assert chinese("an unheard-of sentence") == "an unheard-of sentence"
    assert chinese("") == ""


def test_gaps_are_filled_in_the_order_of_the_translation() -> None:
    translator = Translator({"{} of the {} frames": "{1} 帧中的 {0} 帧"})
    assert translator.text("3 of the 64 frames") == "64 帧中的 3 帧"


def test_what_fills_a_gap_is_said_too() -> None:
    template = "{name} is missing. Upload or choose a file."
    assert chinese(Message(template, name=Message("The picture"))).startswith("缺少图片")


def test_what_a_visitor_typed_stays_inside_a_sentence() -> None:
    """A file called as a button of ours was translated where its name was repeated."""
    said = InputError("{name} is larger than the limit of {limit:.0f} MB.", name="Stop", limit=8)
    assert said.message == "Stop is larger than the limit of 8 MB."
    assert chinese(said.message) == "Stop 超过了 8 MB 的上限。"
    nested = Message("{first}, {rest}", first="Stop", rest=Message("Stop"))
    assert chinese(nested) == "Stop，停止"


def test_several_sentences_are_said_one_after_another() -> None:
    notes = (
        "The text fits nowhere: these are only the moments that come closest. "
        "There is only one frame here, so no motion can be seen."
    )
    assert (
        chinese(notes)
        == "这条文本哪里都不合适：这些只是最接近的片段。这里只有一帧，看不出任何运动。"
    )


def test_a_list_is_said_item_by_item() -> None:
    assert chinese("Done: 11 of 11 · 2.5 a second") == "完成：11 / 11 · 每秒 2.5 张"
    assert chinese("Paused: 3 of 11 · 2 known already · 1 min 20 s left") == (
        "已暂停：3 / 11 · 2 条已有 · 还剩 1 分 20 秒"
    )


@pytest.mark.parametrize(
    "words", ["a square moves left", "birth of a nation", "all frames", "a dog, a cat or a horse"]
)
def test_the_words_of_a_visitor_are_not_taken_for_ours(words: str) -> None:
    assert chinese(words) == words


def test_the_words_of_a_visitor_are_not_kept() -> None:
    """Up to 5,000 texts were, with names of files and typed values, until the app was restarted."""
    words = "holiday-of-nobody-else.png"
    translator = Translator(TABLE)
    assert translator.text(f"{words!r} has 13 MB; the limit is 8 MB. Shrink it and try again.")
    assert translator.html(f"<p title='{words}'>{words}</p>")
    assert words not in repr(vars(translator))


def test_html_keeps_its_marks_and_escapes() -> None:
    with speaking("zh"):
        said = say_html(
            "<p class='note' title='Rank'>Classify</p><img alt=''><b>&lt; 0.1 %</b>"
            "<a href='#t=1' title='Go to 0:05'>Find</a>"
        )
    assert said == (
        "<p class='note' title=\"排序\">分类</p><img alt=''><b>&lt; 0.1 %</b>"
        "<a href='#t=1' title=\"跳到 0:05\">查找</a>"
    )


def test_html_keeps_words_that_are_not_ours() -> None:
    with speaking("zh"):
        said = say_html(
            "<td translate='no'>Rank<small translate='yes'>Rank</small></td><code>Rank</code>"
            "<script>if (1 < 2) Rank</script>Rank"
        )
    assert said == (
        "<td translate='no'>Rank<small translate='yes'>排序</small></td><code>Rank</code>"
        "<script>if (1 < 2) Rank</script>排序"
    )


def test_a_translation_cannot_bring_marks_into_html() -> None:
    evil = Translator({"Rank": "<b onclick='x'>\"排\\1序"})
    assert "<b" not in evil.html("<p>Rank</p>")
    assert evil.html("<p title='Rank'></p>").count('"') == 2


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


def test_captions_of_a_gallery_are_said() -> None:
    with speaking("zh"):
        said: Any = said_props("gallery", {"value": [{"image": {}, "caption": "2 · no match"}]})
    assert said["value"][0]["caption"] == "2 · 不匹配"


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
