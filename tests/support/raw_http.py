"""Requests as anybody could write them by hand, past gradio_client and its checks."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx

#: Seconds after which an answer counts as hanging.
HANG_S = 60.0

#: One for all: a TLS context of its own would cost each request more than its answer.
http = httpx.Client(timeout=HANG_S, verify=False, trust_env=False)


def post(url: str, endpoint: str, data: Any, language: str = "") -> dict[str, Any]:
    """Call a public endpoint; returns {"data": ...} or gradio's error, {"error": text, ...}."""
    base = f"{url.rstrip('/')}/gradio_api/call/{endpoint}"
    body = json.dumps({"data": data})  # escapes what is not ASCII: lone surrogates pass
    head = {"content-type": "application/json", "accept-language": language}
    response = http.post(base, content=body, headers=head)
    response.raise_for_status()
    event = response.json()["event_id"]
    kind = ""
    with http.stream("GET", f"{base}/{event}") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind in {"complete", "error"}:
                value = json.loads(line.removeprefix("data: "))
                return value if kind == "error" else {"data": value}
    raise AssertionError(f"{endpoint} ended without an answer")


def upload(url: str, file: Path) -> str:
    """Upload a file; returns the path that the server keeps it under."""
    files = {"files": (file.name, file.read_bytes())}
    response = http.post(f"{url.rstrip('/')}/gradio_api/upload", files=files)
    response.raise_for_status()
    return str(response.json()[0])


def press(
    url: str, name: str, data: list[Any], session: str = "", about: Any = None, language: str = ""
) -> dict[str, Any]:
    """Start the page's own event `name` as its JavaScript does, with `data` for its inputs.

    What one event does to the page, later ones of the same `session` see; `about` is what the page
    tells of the click.
    """
    base = url.rstrip("/")
    events = http.get(f"{base}/config").json()["dependencies"]
    event = next(event for event in events if event["api_name"] == name)
    session = session or secrets.token_hex(8)
    join = {"fn_index": event["id"], "data": data, "session_hash": session, "event_data": about}
    head = {"accept-language": language}
    http.post(f"{base}/gradio_api/queue/join", json=join, headers=head).raise_for_status()
    query = f"{base}/gradio_api/queue/data?session_hash={session}"
    with http.stream("GET", query) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return dict(message["output"])
    raise AssertionError(f"{name} ended without an answer")
