"""Finds the texts in the source that people may read; `python -m tests.spoken_texts` lists them.

A text is every string of `components/` and `pipelines/` that has words, also a template of a
message with its named values, and every f-string, which no translation can have; less what
`NOT_SHOWN`, `NOT_TEXTS` and `AS_IT_IS` name. In HTML it is what stands between tags, and titles;
in a Jinja2 template what `say` is called with.
"""

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import nodes

from components.render.html import TEMPLATES
from pipelines.core.errors import PipelineError

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "assets" / "languages" / "zh.json"

#: Modules whose texts do not reach a visitor: commands, and what the owner of a server reads.
NOT_SHOWN = re.compile(
    r"components/(server/(mcp|docstrings|health|prometheus|gradio_internals)|widgets/theme)\.py"
    r"|pipelines/(caption_folder|index_folder|serving/command|batch/ray_.*|core/(settings|spec)|doctor/.*)\.py"
)

#: Modules of which only messages and errors do; their other strings are for programs and models.
ERRORS_ONLY = re.compile(
    r"pipelines/(compute/device|core/remote|media/links|media/video/index|serving/zero_gpu"
    r"|models/(captioning/(image_inputs|traits)|clip/texts|remote/(client|messages|stream)"
    r"|viclip/(conversion|modeling).*"
    r"|videochat_flash/(configuration|conversion|modeling|prompts).*))\.py"
)

#: Calls whose strings are for programs or programmers.
NOT_TEXTS = {
    "ArgumentParser", "ArithmeticError", "AssertionError", "EOFError", "KeyError", "NewType",
    "NotImplementedError", "OSError", "RuntimeError", "TypeError", "TypeVar", "ValueError",
    "add_argument", "add_argument_group", "add_parser", "compile", "einsum", "encode", "fullmatch",
    "get", "getLogger", "getattr", "import_module", "match", "open", "register",
    "register_buffer", "replace", "search", "split", "startswith", "endswith", "strftime", "strip",
    "sub",
}  # fmt: skip
LOGS = {"debug", "info", "warning", "error", "exception", "critical"}

#: What is the same in every language: names, paths, SQL; and examples, which the models read.
AS_IT_IS = re.compile(
    r"RGBa|La|[\w.+-]+/[\w.{}+-]+|[\w.{}]+:\w+|[a-z]+\.\w+(\(.*\))?"
    r"|(CREATE|DELETE|INSERT|SELECT) .*"
    r"|content IN .*"
    r"|[A-Z][a-z]+([A-Z]+[a-z]*)+( \| None)?|SceneCheck.*|data:.*|\+?[a-z]+|.*system.*\{\}"
    r"|(BLIP-2|CLIP|Chinese-CLIP|InternVL3?|InstructBLIP|LLaVA|Llama|Qwen|Qwen2.5-VL|SigLIP"
    r"|JoyCaption|Florence|ViCLIP|VideoChat-Flash|BSD|Apache|Top-p)[^:,]*"
    r"|(a|the|red|bus|lion|cheetah|tower|something) [A-Za-z ]*(circle|square|star|wild|watching"
    r"|night|lake|travel in|bicycle|tower).*|[a-z ,]+\n.*|What colour is the circle\?"
    r"|Describe what is seen.*|You are a helpful assistant\.|The video lasts for .*"
    r"|These pictures are .*"
    r"|Which words appear.*|the catalogue gives .*|(answer|class|prompt) token|attention head"
    r"|image processor|instructed query tokens|zh-CN"
    r"|(Accept-Encoding|DecodeBudget|Exports|Fit|Framing|Inert|Inputs|Ledger|Path|Range|Skim|Task|Translator|Turn|Decoding)",
    re.DOTALL,
)

_VALUE = re.compile(r"\{[a-z]\w*(![rs])?(:[^{}]*)?\}")
_TAG = re.compile(r"<[^<>]*>")
_READ = re.compile(r"(?:title|alt|placeholder|aria-label)='([^']*)'")
_TECHNICAL = re.compile(r"[a-z0-9_.\-/*{}:#=\[\]<>|,]+")
_CODE = re.compile(r"[=_\\]|^\.|^/|::")


def _flat(node: ast.AST) -> str | None:
    """Return a string as it stands in the source, `{}` for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _flat(node.left), _flat(node.right)
        return None if left is None or right is None else left + right
    return None


def _family(of: type = PipelineError) -> set[str]:
    """Return the names of the errors that visitors are shown."""
    return {of.__name__}.union(*(_family(one) for one in of.__subclasses__()))


class _Strings(ast.NodeVisitor):
    """Collects the strings of a module, or only those that its errors are made of."""

    def __init__(self, errors_only: bool = False) -> None:
        self.found: list[str] = []
        self.templates: list[str] = []
        self._said = {"Message", "say", *_family()}
        self._errors = self._said if errors_only else set()
        self._wanted = not errors_only

    def visit_Expr(self, node: ast.Expr) -> None:  # docstrings are left out
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # annotations are left out
        for part in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *node.body]:
            if part is not None:
                self.visit(part)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in self._said and node.args and isinstance(node.args[0], ast.Constant):
            self.templates.append(str(node.args[0].value))
        if name in self._errors and not self._wanted:
            self._wanted = True
            self.generic_visit(node)
            self._wanted = False
            return
        owner = getattr(getattr(node.func, "value", None), "id", "")
        if name in NOT_TEXTS or (name in LOGS and owner in ("log", "logger", "warnings")):
            for argument in [*node.args, *[keyword.value for keyword in node.keywords]]:
                if _flat(argument) is None:
                    self.visit(argument)
            self.visit(node.func)
        else:
            self.generic_visit(node)

    def visit(self, node: ast.AST) -> None:
        text = _flat(node)
        if text is None:
            super().visit(node)
            return
        if self._wanted:
            self.found.append(text)
        if isinstance(node, ast.JoinedStr):
            for value in node.values:
                if isinstance(value, ast.FormattedValue):
                    self.visit(value.value)


def _pieces(text: str) -> Iterator[str]:
    for title in _READ.finditer(text):
        yield html.unescape(title.group(1))
    for piece in _TAG.split(text):
        yield html.unescape(piece).strip()


def _is_read(piece: str) -> bool:
    piece = _VALUE.sub("{}", piece)
    if not re.search(r"[A-Za-z][a-z]+", piece.replace("{}", " ")):
        return False
    few = len(piece.split()) < 5
    if _TECHNICAL.fullmatch(piece) or (few and _CODE.search(piece)):
        return False
    return not AS_IT_IS.fullmatch(piece)


def _said_in_templates() -> Iterator[tuple[str, str]]:
    """Yield the texts of the templates, each with the template."""
    for name in TEMPLATES.list_templates():
        source = TEMPLATES.get_template(name).filename or ""
        tree = TEMPLATES.parse(Path(source).read_text(encoding="utf-8"))
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "say":
                for text in call.args:
                    if isinstance(text, nodes.Const):
                        yield text.value, f"components/render/templates/{name}"


def spoken_texts() -> dict[str, str]:
    """Return the texts that people may read, with the file that each is first found in."""
    found: dict[str, str] = {}
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    for folder in ("components", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if NOT_SHOWN.match(name):
                continue
            strings = _Strings(errors_only=ERRORS_ONLY.match(name) is not None)
            strings.visit(ast.parse(path.read_text(encoding="utf-8")))
            for text in strings.templates:
                if "<" not in text:
                    found.setdefault(text, name)
            for text in strings.found:
                for piece in [text] if text in table else _pieces(text):
                    if _is_read(piece):
                        found.setdefault(piece, name)
    for text, name in _said_in_templates():
        found.setdefault(text, name)
    return found


def built_errors() -> list[str]:
    """Return where an error that visitors are shown is made of an f-string or a sum of texts."""
    names = {"Message", *_family()}
    found = []
    for folder in ("components", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "") in names
                if called and node.args and isinstance(node.args[0], ast.JoinedStr | ast.BinOp):
                    found.append(f"{name}:{node.lineno}")
    return [one for one in found if not NOT_SHOWN.match(one.rpartition(":")[0])]


def main() -> None:
    """Print the texts that the table lacks, one as JSON on each line."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    for text, name in spoken_texts().items():
        if text not in table:
            print(json.dumps(text, ensure_ascii=False), name)


if __name__ == "__main__":
    main()
