"""What a person types becomes a list of texts."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.core.errors import InputError
from pipelines.core.text import (
    MAX_CHARS,
    MAX_TEXTS,
    Turn,
    every_line,
    extend_history,
    read_history,
    replace_surrogates,
    split_labels,
    split_lines,
)


@pytest.mark.parametrize(
    ("typed", "labels", "repeated"),
    [
        ("dog", ["dog"], []),
        ("dog, cat", ["dog", "cat"], []),
        ("狗，猫", ["狗", "猫"], []),
        ("dog\ncat", ["dog", "cat"], []),
        ("a dog, sitting\na cat", ["a dog, sitting", "a cat"], []),
        ("a dog, sitting\n", ["a dog", "sitting"], []),
        (" dog ,, cat , ", ["dog", "cat"], []),
        ("\r\n dog\r\n\r\ncat \r\n", ["dog", "cat"], []),
        ("dog, cat, dog, dog", ["dog", "cat"], ["dog"]),
        ("Dog, dog", ["Dog", "dog"], []),
        ("\ud800dog, cat", ["\ufffddog", "cat"], []),
        ("😀, \ud83d\ude00", ["😀"], ["😀"]),
    ],
)
def test_labels(typed: str, labels: list[str], repeated: list[str]) -> None:
    assert split_labels(typed) == (labels, repeated)
    "".join(labels).encode()


def test_a_thousand_labels() -> None:
    labels = [f"label {i}" for i in range(1000)]
    assert split_labels("\n".join(labels)) == (labels, [])
    assert split_labels(",".join(labels)) == (labels, [])


def test_lines_keep_their_commas_and_where_asked_their_repetitions() -> None:
    assert split_lines("a, b\nc\n\na, b", "texts") == (["a, b", "c"], ["a, b"])
    assert every_line("a, b\nc\n\na, b", "texts") == ["a, b", "c", "", "a, b"]


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\f", "\v", "\r", *"\x1c\x1d\x1e"])
def test_only_a_line_feed_ends_a_line(inside: str) -> None:
    text = f"a{inside}b"
    assert every_line(f"{text}\r\nc", "texts") == [text, "c"]
    assert split_lines(f"{text}\nc", "texts") == ([text, "c"], [])
    assert split_labels(f"{text}\nc") == ([text, "c"], [])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\n\nb", ["a", "", "b"]),
        ("a\r\n \t\r\nb", ["a", "", "b"]),
        ("\na", ["", "a"]),
        ("a\n", ["a"]),
        ("a\r\n", ["a"]),
        ("a\n\n", ["a", ""]),
    ],
)
def test_a_blank_line_keeps_its_place(text: str, lines: list[str]) -> None:
    assert every_line(text, "texts") == lines


SPLITS = [
    split_labels,
    lambda text: split_lines(text, "labels"),
    lambda text: every_line(text, "labels"),
]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "must hold at least one text but is empty"),
        (" \n\t ", "must hold at least one text but is empty"),
        ("\n".join(map(str, range(MAX_TEXTS + 1))), r"at most 5,000 texts but got 5,001"),
        ("x" * (MAX_CHARS + 1), r"at most 1,000,000 characters in all but got 1,000,001"),
        (None, "must be text but got no value"),
        (["dog"], "must be text but got a list"),
    ],
)
def test_what_is_no_list_of_texts_is_said_so(
    split: Callable[[Any], Any], typed: Any, said: str
) -> None:
    with pytest.raises(InputError, match="labels.*" + said):
        split(typed)


def test_too_many_lines_that_repeat() -> None:
    with pytest.raises(InputError, match="at most 5,000 texts but got 6,000"):
        every_line("dog\n" * 6000, "texts")


def test_lone_surrogates_are_mended_and_pairs_joined() -> None:
    """JSON may hold them; the tokenisers of SigLIP 2 and Chinese-CLIP raised a TypeError."""
    assert replace_surrogates("a\ud800b\udc00\ud83d\ude00c") == "a\ufffdb\ufffd😀c"
    assert replace_surrogates("猫 dog") == "猫 dog"


def test_a_history_holds_text_or_text_parts() -> None:
    history = [
        {"role": "user", "content": [{"type": "text", "text": "What"}, "is it?"]},
        {"role": "assistant", "content": [{"type": "text", "text": "A circle."}]},
    ]
    assert read_history(history) == (Turn("What\nis it?", "A circle."),)
    assert extend_history(history, "b", "c")[1] == {"role": "assistant", "content": "A circle."}
    for content in ([], [{"type": "image_url"}], [3]):
        with pytest.raises(InputError, match="history must be a list"):
            read_history([{"role": "user", "content": content}])
