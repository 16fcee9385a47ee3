"""Arguments and results of MCP tools (`--mcp`) where Gradio's MCP server falls short."""

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from components.server.docstrings import returned_names
from components.server.gradio_internals import FILE_ROUTE, mcp_server_of
from pipelines.core.errors import shown

#: Beginnings of a file in an agent's arguments.
_FILE_STARTS = ("http://", "https://", "data:")


def serve_agents(app: Any) -> None:
    """Put `Tools` in place, before the first request comes."""
    server = mcp_server_of(app)
    if server is not None:
        Tools(server)


class Tools:
    """Tools of Gradio's MCP server with JSON results and links as files.

    Gradio makes `str` of each value. Here an endpoint that gives text answers with that text, any
    other with JSON, as text and as the structured content of the protocol; several values are one
    object, by the names in the endpoint's docstring. Gradio takes a link as a file only where a
    file is required; here also where it is optional or one of a list.
    """

    def __init__(self, server: Any) -> None:
        from mcp.types import CallToolRequest

        self._server = server
        handlers = server.mcp_server.request_handlers
        self._call = handlers[CallToolRequest]
        handlers[CallToolRequest] = self.call
        server.postprocess_output_data = packed
        convert = server.convert_strings_to_filedata
        server.convert_strings_to_filedata = lambda arguments, positions: convert(
            arguments, file_places(arguments, positions)
        )

    async def call(self, request: Any) -> Any:
        """Answer the call of a tool; an error is one sentence."""
        arguments = self._given(request.params.name, request.params.arguments or {})
        request.params.arguments = arguments
        wrong = self._wrong(request.params.name, arguments)
        if not wrong and self._holds_files(request.params.name, arguments):
            wrong = await self._server.blocks.links.no_room()
        if wrong:
            return _refused(wrong)
        answer = await self._call(request)
        result = answer.root
        if result.isError:
            return answer
        (content,) = result.content
        value = self._value(request.params.name, json.loads(content.text))
        if isinstance(value, str):
            content.text = value
        else:
            content.text = json.dumps(value, ensure_ascii=False)
            result.structuredContent = value if isinstance(value, dict) else {"result": value}
        return answer

    def _given(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if tool not in self._server.tool_to_endpoint:
            return dict(arguments)
        return without_nulls(arguments, self._server.get_input_schema(tool)[0])

    def _wrong(self, tool: str, arguments: Mapping[str, Any]) -> str:
        if tool not in self._server.tool_to_endpoint:
            tools = ", ".join(self._server.tool_to_endpoint)
            return f"There is no tool {shown(tool)}. Call one of: {tools}."
        schema, positions = self._server.get_input_schema(tool)
        return wrong_form(arguments, schema) or wrong_file(
            arguments, file_places(arguments, positions)
        )

    def _holds_files(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        _, positions = self._server.get_input_schema(tool)
        places = file_places(arguments, positions)
        files = (_at(arguments, place) for place in places)
        return any(isinstance(file, str) and file.startswith("data:") for file in files)

    def _value(self, tool: str, outputs: list[Any]) -> Any:
        if len(outputs) == 1:
            return outputs[0]
        event = self._server.get_block_fn_from_endpoint_name(self._server.tool_to_endpoint[tool])
        return dict(zip(returned_names(inspect.getdoc(event.fn) or ""), outputs, strict=True))


def without_nulls(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a JSON schema less those that are null, optional and cannot be null."""
    optional = schema["properties"].keys() - schema.get("required", ())
    return {
        name: value
        for name, value in arguments.items()
        if value is not None or name not in optional or _fits(value, schema["properties"][name])
    }


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    from jsonschema import Draft202012Validator

    return bool(Draft202012Validator(schema).is_valid(value))


def wrong_form(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a sentence on the first argument that does not fit the JSON schema of all, or ""."""
    known = schema["properties"]
    for name in schema.get("required", ()):
        if name not in arguments:
            return f"{name} is missing. Call the tool again with this argument."
    for name, value in arguments.items():
        if name not in known:
            names = ", ".join(known)
            return f"There is no argument {shown(name)}. This tool takes: {names or 'none'}."
        if not _fits(value, known[name]):
            return (
                f"{name} must be {_kinds(known[name])}, but got {shown(value)}. Mend this "
                "argument and call the tool again."
            )
    return ""


def wrong_file(arguments: Mapping[str, Any], places: Sequence[Sequence[str | int]]) -> str:
    """Return a sentence on the first argument at one of `file_places` that is no file, or ""."""
    for place in places:
        name, value = place[0], _at(arguments, place)
        if isinstance(value, str) and not value.startswith(_FILE_STARTS):
            return (
                f"{name} must be a link to a file, which begins with http:// or https://, or the "
                f"file itself as a data URL, which begins with data:, but got {shown(value)}. "
                "Mend this argument and call the tool again."
            )
        if isinstance(value, str) and value.startswith("data:") and _is_broken(value):
            return (
                f"{name} is a data URL whose base64 cannot be read: {shown(value)}. It must be "
                "data:, the kind of file, ;base64, and all of the file's bytes in base64, such as "
                "data:image/png;base64,iVBORw0K... Encode the file again and call the tool again."
            )
    return ""


def _at(arguments: Mapping[str, Any], place: Sequence[str | int]) -> Any:
    value: Any = arguments
    for key in place:
        value = value[key]
    return value


def _is_broken(link: str) -> bool:
    try:
        return not base64.b64decode(link.partition(",")[2])
    except ValueError:
        return True


def _kinds(schema: Mapping[str, Any]) -> str:
    """Return the types of a schema, such as "string or null" or "array of object"."""
    several = schema.get("oneOf") or schema.get("anyOf")
    if several:
        return " or ".join(dict.fromkeys(_kinds(one) for one in several))
    kind = str(schema.get("type", "any value"))
    return f"{kind} of {_kinds(schema['items'])}" if schema.get("items") else kind


def _refused(sentence: str) -> Any:
    from mcp.types import CallToolResult, ServerResult, TextContent

    said = TextContent(type="text", text=sentence)
    return ServerResult(CallToolResult(content=[said], isError=True))


def file_places(
    arguments: Mapping[str, Any], positions: Sequence[Sequence[str | int]]
) -> list[list[str | int]]:
    """Return the places of files among the arguments of a tool.

    The positions are where the schema of the arguments has files, such as ["image"],
    ["files", "items"] or ["image", "oneOf", 1].
    """
    found: list[list[str | int]] = []
    for name, *_ in positions:
        value = arguments.get(str(name))
        if isinstance(value, list):
            found += [[name, index] for index in range(len(value))]
        elif value:
            found.append([name])
    return found


def packed(data: Sequence[Any], root_url: str) -> list[Any]:
    """Return all values of a tool as one JSON list, for `Tools.call`.

    Where nobody asked for progress, Gradio hands over one tuple that holds them.
    """
    from mcp.types import TextContent

    values = data[0] if len(data) == 1 and isinstance(data[0], tuple) else data
    linked = [_linked(value, root_url.rstrip("/")) for value in values]
    return [TextContent(type="text", text=json.dumps(linked, ensure_ascii=False))]


def _linked(value: Any, root_url: str) -> Any:
    """Return a value with a name and a link in place of each file."""
    if isinstance(value, list | tuple):
        return [_linked(each, root_url) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("path") and "orig_name" in value:
        url = f"{root_url}{FILE_ROUTE}{quote(value['path'])}"
        return {"name": value["orig_name"], "url": url}
    return {key: _linked(each, root_url) for key, each in value.items()}
