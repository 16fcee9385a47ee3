"""Conversations of a chat component as plain messages."""

import pytest

from components.widgets.chat import as_text, back_to_question, plain_messages
from pipelines.core.errors import InputError

TURNS = [
    {"role": "user", "content": "a?"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c?"},
    {"role": "assistant", "content": "d"},
]


def test_parts_and_extras_of_a_component_become_plain() -> None:
    shown = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "?"}], "options": []},
        {"role": "assistant", "content": {"type": "text", "text": "b"}, "metadata": None},
        {"role": "user", "content": None},
    ]
    assert plain_messages(shown) == [*TURNS[:2], {"role": "user", "content": ""}]
    assert plain_messages(None) == []


@pytest.mark.parametrize(
    ("index", "before", "question"), [(3, 2, "c?"), (2, 2, "c?"), (1, 0, "a?")]
)
def test_back_to_a_question(index: int, before: int, question: str) -> None:
    assert back_to_question(TURNS, index) == (TURNS[:before], question)
    assert back_to_question(TURNS, 99) == (TURNS[:2], "c?")


def test_nothing_to_go_back_to() -> None:
    with pytest.raises(InputError, match="no question"):
        back_to_question([], -1)


def test_as_a_file() -> None:
    assert as_text(TURNS[:2]) == "Question: a?\n\nAnswer: b\n\n"
