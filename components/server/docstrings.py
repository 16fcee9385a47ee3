"""Docstrings of the endpoints, for the API page and for agents."""

import re


def unwrapped(doc: str) -> str:
    """Return a docstring with each description on one line, as gradio reads them.

    Gradio takes a continued line for the next value, and puts a comma between the two.
    """
    lines: list[str] = []
    section = ""
    for line in doc.splitlines():
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if text in {"Args:", "Returns:"}:
            section = text
        goes_on = depth > 4 or (depth == 4 and section == "Returns:" and _is_prose(lines))
        if text and goes_on:
            lines[-1] += f" {text}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _is_prose(lines: list[str]) -> bool:
    """Return whether the values are described in running text, not one by one."""
    return not lines[-1].strip().endswith(("Returns:", "."))


def returned_names(doc: str) -> list[str]:
    """Return the names of the values that a docstring lists under "Returns:"."""
    _, _, returns = doc.partition("Returns:\n")
    return re.findall(r"^ {4}(\w+): ", returns, re.MULTILINE)
