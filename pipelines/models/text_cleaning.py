"""Cleaning of texts before a tokenizer, as the models were trained."""

import html

import ftfy
import regex

from pipelines.core.text import mend_surrogates

#: A text is cut to this many characters before it is tokenised; no model reads as many.
MAX_TEXT_CHARS = 4000


_WHITESPACE = regex.compile(r"\s+")


def clean_text(text: str, cleaning: str) -> str:
    """Bring a text into the form that the model was trained on.

    "openai" is the cleaning of CLIP's own tokeniser, which transformers' `CLIPTokenizer` leaves
    out: broken encodings mended, HTML entities resolved (twice), whitespace collapsed, lower
    case. "lower" is lower case only. "none" leaves the text alone.

    Source: openai/CLIP clip/simple_tokenizer.py, MIT; differs: nothing but the form.
    """
    text = mend_surrogates(text[:MAX_TEXT_CHARS])
    if cleaning == "openai":
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        return _WHITESPACE.sub(" ", text).strip().lower()
    return text.lower() if cleaning == "lower" else text
