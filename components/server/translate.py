"""Translation of texts into the visitor's language.

Texts are written in English. Here, at the border, they are turned into the language that the
visitor's browser asks for: `assets/languages/zh.json` maps each template of a message, and each
text without values, to its translation, which names the same values. A text that is missing stays
English; a test finds it.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.core.messages import Message

FOLDER = Path(__file__).parents[2] / "assets" / "languages"

#: Languages of the page; the first is the one that all texts are written in.
LANGUAGES = ("en", "zh")

_language: ContextVar[str] = ContextVar("language", default=LANGUAGES[0])


@lru_cache
def chosen_language(accepted: str) -> str:
    """Return the language for an `Accept-Language` header, such as "zh-CN,zh;q=0.9,en;q=0.8".

    Anything else gives English.
    """
    best, best_weight = LANGUAGES[0], 0.0
    for part in accepted.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            asked = float(weight) if weight else 1.0
        except ValueError:
            continue
        code = tag.split("-")[0].lower()
        if code in LANGUAGES and asked > best_weight:
            best, best_weight = code, asked
    return best


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Translate texts into this language, one of `LANGUAGES`, within the block."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def language() -> str:
    """Return the language of the visitor who is being answered."""
    return _language.get()


def say(text: str, **values: object) -> str:
    """Return a text in the visitor's language, with `values` filled in by name.

    The text is a `Message`, or the template of one, or has no values; messages among the values
    are translated too.
    """
    message = Message(text, **values)
    return message if language() == LANGUAGES[0] else translated(message, table(language()))


@lru_cache
def table(code: str) -> Mapping[str, str]:
    """Return the translations into a language, one of `LANGUAGES` but the first, by template."""
    found: Mapping[str, str] = json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8"))
    return found


def translated(message: Message, texts: Mapping[str, str]) -> str:
    """Return a message with its template, and those of its values, looked up in `texts`."""
    template = texts.get(message.template, message.template)
    if not message.values:
        return template
    values = {
        name: translated(value, texts) if isinstance(value, Message) else value
        for name, value in message.values.items()
    }
    return template.format_map(values)


#: Settings of a component that are texts.
TEXTS = ("label", "info", "placeholder", "title", "alt_text")

#: Components whose value is a text of ours, not of a visitor or a model.
SPOKEN = ("button", "downloadbutton", "uploadbutton", "markdown")


def said_props(kind: str, props: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a component, or some of them, in the visitor's language.

    `kind` is the name of the component's class in lower case.
    """
    said = dict(props)
    for name in TEXTS:
        if isinstance(said.get(name), str):
            said[name] = say(said[name])
    if "choices" in said and isinstance(said["choices"], Sequence):
        said["choices"] = [_choice(choice) for choice in said["choices"]]
    if "value" in said:
        said["value"] = said_value(kind, said["value"])
    return said


def _choice(choice: Any) -> Any:
    """Return a choice whose name is said; one named as its value is a visitor's own word."""
    if isinstance(choice, list | tuple) and len(choice) == 2 and choice[0] != choice[1]:
        return (say(choice[0]), choice[1])
    return choice


def said_value(kind: str, value: Any) -> Any:
    """Return the value of a component in the visitor's language, if it is words of ours."""
    ours = isinstance(value, Message) or (kind in SPOKEN and isinstance(value, str))
    return say(value) if ours else value


class TranslatedBlocks(gr.Blocks):
    """Blocks that speak the language of each visitor's browser.

    Gradio's own `gr.I18n` translates fixed texts in the browser; most of ours are made while a
    question is answered, so that both are said here, by one table.
    """

    @property
    def config(self) -> Any:
        """What the page is built from, in the language of the request at hand."""
        if language() == LANGUAGES[0]:
            return self._config
        if language() not in self._said_configs:
            config = copy.deepcopy(self._config)
            for component in config["components"]:
                component["props"] = said_props(component["type"], component["props"])
            self._said_configs[language()] = config
        return self._said_configs[language()]

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config
        self._said_configs: dict[str, Any] = {}

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """Convert what a handler returned; for the page, in the visitor's language."""
        values = await super().postprocess_data(block_fn, predictions, state)
        if block_fn.api_visibility != "private" or language() == LANGUAGES[0]:
            return values
        said = []
        for block, value in zip(block_fn.outputs, values, strict=False):
            update = isinstance(value, dict) and value.get("__type__") == "update"
            said.append((said_props if update else said_value)(block.get_block_name(), value))
        return said


class LanguageMiddleware:
    """ASGI middleware: within a request, texts are said in the language that it asks for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope.get("headers") or ())
        accepted = headers.get(b"accept-language", b"").decode("latin-1")

        async def send_varied(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"vary", b"Accept-Language")]
            await send(message)

        with speaking(chosen_language(accepted)):
            await self.app(scope, receive, send_varied)
