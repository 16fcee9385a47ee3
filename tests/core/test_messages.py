"""Messages: plain English strings that keep their template and values."""

import copy
import json
import pickle
from dataclasses import asdict, dataclass, replace
from string import Formatter

import pytest

from pipelines.core.errors import DecoderLost, InputError, PipelineError, type_name
from pipelines.core.messages import Message, joined

LIMIT = Message("{name} has {size:,.0f} MB; the limit is {limit} MB.", name="a", size=1e4, limit=8)


@dataclass(frozen=True)
class Noted:
    """A result with a note."""

    notes: tuple[str, ...]


def test_a_message_is_its_english_text() -> None:
    assert LIMIT == "a has 10,000 MB; the limit is 8 MB."
    assert hash(LIMIT) == hash(str(LIMIT))
    assert json.dumps([LIMIT]) == '["a has 10,000 MB; the limit is 8 MB."]'
    assert LIMIT.values == {"name": "a", "size": 1e4, "limit": 8}


def test_a_text_without_values_is_taken_as_it_stands() -> None:
    assert Message("use {} for the label") == "use {} for the label"
    assert Message(Message("Stop")).template == "Stop"
    assert Message(LIMIT) is LIMIT


def test_braces_in_a_value_are_no_template() -> None:
    message = Message("{given} is none.", given="{name} {0} {")
    assert message == "{name} {0} { is none."


@pytest.mark.parametrize("sent", [pickle.loads(pickle.dumps(LIMIT)), copy.deepcopy(LIMIT)])
def test_a_message_travels_with_its_template(sent: Message) -> None:
    assert (sent, sent.template, sent.values) == (LIMIT, LIMIT.template, LIMIT.values)


def test_a_message_stays_one_in_a_dataclass() -> None:
    result = replace(Noted(()), notes=(LIMIT,))
    assert asdict(result)["notes"][0].template == LIMIT.template
    assert pickle.loads(pickle.dumps(result)).notes[0].template == LIMIT.template


@pytest.mark.parametrize("kind", [InputError, DecoderLost])
def test_an_error_travels_with_its_template_and_title(kind: type[PipelineError]) -> None:
    error = kind("{name} must be {what}.", name="a", what=type_name("b"), title="Not this")
    sent = pickle.loads(pickle.dumps(error))
    assert type(sent) is kind
    assert (str(sent), sent.title) == ("a must be a text.", "Not this")
    assert sent.message.template == "{name} must be {what}."
    assert sent.message.values["what"].template == "a text"


def test_a_value_is_not_read_as_a_template_and_not_looked_at() -> None:
    """Only the template is read, however long a value is."""

    class Long(str):
        def __format__(self, spec: str) -> str:
            return "long"

        def __getitem__(self, at: object) -> str:
            raise AssertionError("looked at")

    assert Message("{given} is too long.", given=Long("x" * 4000)) == "long is too long."
    assert [name for _, name, _, _ in Formatter().parse("{given} is too long.")] == ["given", None]


def test_texts_are_joined_one_by_one() -> None:
    assert joined(["a"]) == "a"
    assert joined(["a", LIMIT, "c"]) == f"a, {LIMIT}, c"
    assert joined(["a", "b"], "{first} or {rest}") == "a or b"
