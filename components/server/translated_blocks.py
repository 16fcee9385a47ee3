"""The page in the language of each visitor: what it starts with, and what handlers send to it."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from components.server.translate import LANGUAGES, chosen_language, language, say, speaking
from pipelines.core.messages import Message

#: Settings of a component that are texts.
TEXTS = ("label", "info", "placeholder", "title", "alt_text")

#: Components whose value is a text of ours, not of a visitor or a model.
SPOKEN = ("button", "downloadbutton", "uploadbutton", "markdown")


def said_props(kind: str, props: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a component, or some of them, in the visitor's language.

    Args:
        kind: name of the component's class in lower case.
        props: by name, as they are sent to the page.
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


def language_of(request: Any) -> str:
    """Return the language that a `gr.Request` asks for."""
    headers = getattr(request, "headers", None) or {}
    return chosen_language(headers.get("accept-language", ""))


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

    async def process_api(  # type: ignore[override]
        self, block_fn: Any, inputs: list[Any], state: Any = None, request: Any = None, **rest: Any
    ) -> dict[str, Any]:
        """Answer a request in the language of its sender."""
        with speaking(language_of(request)):
            return await super().process_api(block_fn, inputs, state, request, **rest)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """Convert what a handler returned; for the page, in the visitor's language."""
        values = await super().postprocess_data(block_fn, predictions, state)
        if language() == LANGUAGES[0] or block_fn.api_visibility != "private":
            return values
        return [
            _said_output(block.get_block_name(), value)
            for block, value in zip(block_fn.outputs, values, strict=False)
        ]


def _said_output(kind: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("__type__") == "update":
        return said_props(kind, value)
    return said_value(kind, value)


class LanguageMiddleware:
    """ASGI middleware: within a request, texts are said in the language that it asks for."""

    def __init__(self, app: Any) -> None:
        """Wrap an application."""
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
