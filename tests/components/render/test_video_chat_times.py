"""Times in an answer become links; everything else stays what was said, to the letter."""

import random

import pytest

from components.render.video_chat import as_markdown, from_markdown, times_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("At 12 s it turns.", [12]),
        ("At 0:12, then 00:15 and 1:02:03.4", [12, 15, 3723.4]),
        ("After 12.5 seconds; 1 second later, 3sec", [12.5, 1, 3]),
        ("from 3 to 5 seconds, 7-9 s, 11 – 13 s", [3, 5, 7, 9, 11, 13]),
        ("between 2 and 4 seconds", [2, 4]),
        ("There are 4 circles and 3 squares.", []),
        ("It is 10 small, 5 stars, v1:234, 12:5", []),
        ("A 30-second video", [30]),
        ("", []),
    ],
)
def test_times(text: str, seconds: list[float]) -> None:
    assert [time.seconds for time in times_in(text, 1e6)] == seconds


def test_times_outside_the_video_are_no_links() -> None:
    assert [time.seconds for time in times_in("at 2 s, 3.4 s, 9 s, 0:59", 3.0)] == [2, 3.4]
    assert times_in("at 2 s", -1.0) == []


def test_links() -> None:
    shown = as_markdown("It turns at 0:12 and *rests* from 3 to 5 s.", 60)
    assert shown == (r"It turns at [0:12](#t=12) and \*rests\* from [3](#t=3) to [5 s](#t=5).")


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n2. two\n- three\n    code\n\ttab",
        "<img src=x onerror=alert(1)> [a](http://x.y) www.a.b ftp://c a@b.c",
        r"\*a\* \\ &amp; &#32; $x$ `code` ~~no~~ | # title",
        "[0:01](#t=1) at 0:01",
    ],
)
def test_what_was_said_can_be_read_back(text: str) -> None:
    for video_s in (-1.0, 1e6):
        assert from_markdown(as_markdown(text, video_s)) == text


def test_any_text_can_be_read_back() -> None:
    source = random.Random(0)
    pieces = [
        *"ab 12:.s\n\t-+=)(*_[]<>#|~&$@\\`/;é中",
        "http://",
        "www.",
        "&#32;",
        "0:12",
        "3 to 5 s",
    ]
    for _ in range(5000):
        text = "".join(source.choices(pieces, k=source.randint(0, 14)))
        assert from_markdown(as_markdown(text, source.choice((-1.0, 1e6)))) == text


def test_times_of_a_part_are_links_into_the_whole_video() -> None:
    text = "It turns at 2 s and rests at 12 s."
    assert as_markdown(text, 20.0, 10.0) == "It turns at [2 s](#t=12) and rests at 12 s."
    shown = as_markdown("From 0:00 to 1.25 s", 4.5, 1.5)
    assert shown == "From [0:00](#t=1.5) to [1.25 s](#t=2.75)"
    assert from_markdown(shown) == "From 0:00 to 1.25 s"
