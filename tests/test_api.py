"""The whole public interface as one snapshot: no name, parameter or default changes by accident.

After a change that is meant, `python -m tests.test_api --write` makes it anew; the diff of
`tests/api.json` then shows what scripts and agents will meet.
"""

import json
import sys
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parent / "api.json"


def published() -> dict[str, Any]:
    """Return endpoints with parameters and returns, and how requests to them are queued."""
    from components.page import build_app
    from components.server.services import Services
    from pipelines.core.settings import Settings
    from pipelines.serving.store import PipelineStore

    app = build_app(Services.of(PipelineStore(Settings(models="bundled", offline=True))))
    info = app.get_api_info()
    queues = {
        f"/{event.api_name}": event.concurrency_id
        for event in app.fns.values()
        if event.api_visibility == "public"
    }
    assert info["unnamed_endpoints"] == {}
    return {
        name: {
            "queue": queues[name],
            "parameters": [_parameter(one) for one in endpoint["parameters"]],
            "returns": [one["python_type"]["type"] for one in endpoint["returns"]],
        }
        for name, endpoint in info["named_endpoints"].items()
    }


def _parameter(described: dict[str, Any]) -> dict[str, Any]:
    known = {"name": described["parameter_name"], "type": described["python_type"]["type"]}
    if described["parameter_has_default"]:
        known["default"] = described["parameter_default"]
    return known


def rendered() -> str:
    return json.dumps(published(), indent=1, ensure_ascii=False) + "\n"


def test_the_interface_is_that_of_the_snapshot() -> None:
    assert rendered() == SNAPSHOT.read_text("utf-8"), "if meant: python -m tests.test_api --write"


def test_the_snapshot_sees_a_default_and_a_missing_one() -> None:
    api = json.loads(SNAPSHOT.read_text("utf-8"))
    image, *_, seed = api["/caption_image"]["parameters"]
    assert "default" not in image
    assert seed == {"name": "seed", "type": "int", "default": 0}
    assert api["/chat_image"]["returns"] == ["str", "list[dict(str, Any)]"]
    assert len({one["queue"] for one in api.values()}) > 2


if __name__ == "__main__" and "--write" in sys.argv:
    SNAPSHOT.write_text(rendered(), encoding="utf-8")
