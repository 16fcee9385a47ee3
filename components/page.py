"""The page: header, tabs, launch options."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.media import MEDIA_ROOT as MEDIA
from starlette.middleware import Middleware
from starlette.routing import Route

from components.api import publish
from components.server.blocks import Page
from components.server.body_limit import MAX_JSON_BYTES, BodyLimit
from components.server.gradio_internals import (
    accept_mcp_bodies,
    close_off_the_loop,
    forbid_fetching,
    move_states_out,
)
from components.server.mcp import serve_agents
from components.server.origins import OriginCheck
from components.server.rate_limit import AccessRules
from components.server.services import Services
from components.server.sessions import forget_visits
from components.server.translate import LanguageMiddleware
from components.server.uploads import Links, Uploads
from components.tabs import (
    batch,
    classify,
    describe,
    evaluate,
    match,
    moments,
    search,
    similarity,
    video_chat,
)
from components.widgets.examples import ASSETS
from components.widgets.model_picker import is_bundled
from components.widgets.queues import MOST_AT_ONCE
from components.widgets.theme import THEME
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.serving.work_dir import KEEP_FILES_S

#: Requests that may wait; one more is refused with a clear message.
MAX_WAITING = 256

#: Folders of files that the page shows to everybody.
PUBLIC_FOLDERS = (ASSETS / "examples", Path(MEDIA))

#: Texts that Gradio's own languages lack; it would show the key.
LACKING_IN_ENGLISH = {"common.upload": "Upload", "common.complete": "Complete"}
LACKING_IN_CHINESE = {"common.upload": "上传", "common.complete": "完成"}

TABS = (
    classify,
    similarity,
    describe,
    batch,
    video_chat,
    match,
    moments,
    search,
    evaluate,
)


def build_app(services: Services) -> Page:
    """Lay out the whole app."""
    close_off_the_loop()
    forbid_fetching()
    keep_s = int(KEEP_FILES_S)  # gradio deletes at exit what sweeping cannot
    with Page(title="SeeSay", analytics_enabled=False, delete_cache=(keep_s, keep_s)) as app:
        lead = "Ask anything about a picture or a video."
        gr.HTML(Message("<h1>SeeSay</h1><p>{text}</p>", text=Message(lead)), elem_id="masthead")
        with gr.Tabs() as tabs:
            for tab in TABS:
                if is_bundled(services.store, tab.TASK):
                    tab.build(services, app)
        move_states_out(tabs, app)
        publish.build(services)
    app.uploads = Uploads(services.store.settings)
    app.links = Links(services.store.settings)
    app.rules = AccessRules(services.store.settings.requests_per_minute)
    # closed: Gradio's routes that answer beside the queue
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    return app


@asynccontextmanager
async def _serving(app: Any) -> AsyncIterator[None]:
    """Lifespan of the server: MCP tools, and the deletion of old sessions."""
    serve_agents(app)
    async with forget_visits(app):
        yield


def launch_options(settings: Settings, routes: Sequence[Route] = ()) -> dict[str, Any]:
    """Return the arguments of `launch`; `routes` are served beside the page."""
    if settings.mcp:
        accept_mcp_bodies(MAX_JSON_BYTES)
    around = [
        Middleware(LanguageMiddleware),
        Middleware(OriginCheck, settings=settings),
        Middleware(BodyLimit, settings=settings),
    ]
    return {
        "auth": [tuple(settings.auth.split(":", 1))] if settings.auth else None,
        "server_name": settings.host,
        "server_port": settings.port or None,  # None: the first free one
        "theme": THEME,
        "allowed_paths": [str(folder) for folder in PUBLIC_FOLDERS],
        "css_paths": [ASSETS / "style.css"],
        "favicon_path": ASSETS / "favicon.svg",
        "head": f"<script>{(ASSETS / 'page.js').read_text(encoding='utf-8')}</script>",
        "max_threads": MOST_AT_ONCE,  # else Gradio has 40 over all queues
        "max_file_size": int(settings.max_upload_mb * 1e6),
        "share": False,
        "enable_monitoring": False,
        "run_history": False,  # its routes ask no password, and act with the owner's token
        "ssr_mode": False,
        "show_error": False,
        "quiet": False,
        "i18n": gr.I18n(**{"en": LACKING_IN_ENGLISH, "zh-CN": LACKING_IN_CHINESE}),
        "mcp_server": settings.mcp,
        "app_kwargs": {"middleware": around, "routes": list(routes), "lifespan": _serving},
    }
