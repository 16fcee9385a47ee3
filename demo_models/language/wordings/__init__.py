"""Wordings as TOML files, and their loader."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

Phrases = tuple[str, ...]
PhraseTable = dict[str, Phrases]


def read(name: str) -> dict[str, Any]:
    """Return the content of `NAME.toml`; arrays are tuples."""
    path = Path(__file__).parent / f"{name}.toml"
    return {key: _frozen(value) for key, value in tomllib.loads(path.read_text("utf-8")).items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(entry) for key, entry in value.items()}
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


def expanded(phrases: Phrases, parts: PhraseTable) -> Phrases:
    """Return the phrases with `<name>` replaced by each entry of `parts[name]` in turn."""
    found: list[str] = []
    for phrase in phrases:
        name = phrase.partition("<")[2].partition(">")[0]
        found += [phrase.replace(f"<{name}>", part) for part in parts[name]] if name else [phrase]
    return tuple(found)
