"""Cleaning of texts before a tokenizer."""

import html

import ftfy
import regex

from pipelines.core.text import replace_surrogates

#: Characters of a text that are tokenised at most; no model reads as many.
MAX_TEXT_CHARS = 4000

_WHITESPACE = regex.compile(r"\s+")


def clean_text(text: str, cleaning: str) -> str:
    """Return a text in the form that the model was trained on, cut to `MAX_TEXT_CHARS`.

    "openai" is the cleaning of CLIP's own tokeniser, which transformers' `CLIPTokenizer` omits:
    mended encodings, HTML entities resolved (twice), collapsed whitespace, lower case. "lower" is
    lower case only, "none" no change.

    Source: openai/CLIP clip/simple_tokenizer.py, MIT; differs: form only.
    """
    text = replace_surrogates(text[:MAX_TEXT_CHARS])
    if cleaning == "openai":
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        return _WHITESPACE.sub(" ", text).strip().lower()
    return text.lower() if cleaning == "lower" else text
