"""The page: header, tabs, look."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.media import MEDIA_ROOT as MEDIA
from starlette.middleware import Middleware

from components import (
    api,
    batch_tab,
    classify_tab,
    describe_tab,
    match_tab,
    moments_tab,
    similarity_tab,
    video_chat_tab,
)
from components.common import ASSETS, is_bundled
from components.errors import Page
from components.house import House
from components.speaking_page import LanguageOfRequest
from components.theme import THEME
from pipelines.settings import Settings
from pipelines.store import PipelineStore
from pipelines.sweeping import KEEP_FILES_S

#: Requests that may wait; one more is refused with a clear message.
MAX_WAITING = 256

#: Folders of pictures that the page shows to everybody.
PUBLIC_FOLDERS = (ASSETS / "examples", Path(MEDIA))

#: What Gradio's own Chinese lacks.
LACKING_IN_CHINESE = {"common.upload": "上传", "common.complete": "完成"}

TABS = (
    classify_tab,
    similarity_tab,
    describe_tab,
    batch_tab,
    video_chat_tab,
    match_tab,
    moments_tab,
)


def build_app(store: PipelineStore) -> Page:
    """Lay out the whole app."""
    keep_s = int(KEEP_FILES_S)  # gradio deletes the rest when it ends, which sweeping cannot
    with Page(title="SeeSay", analytics_enabled=False, delete_cache=(keep_s, keep_s)) as app:
        gr.HTML(
            "<h1>SeeSay</h1><p>See an image or a video, say what it is; "
            "say something, and see where it is.</p>",
            elem_id="masthead",
        )
        with gr.Tabs():
            for tab in TABS:
                if is_bundled(store, tab.TASK):
                    tab.build(store, app)
        api.build(store)
    app.house = House(store.settings.requests_per_minute)
    app.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    return app


def launch_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `launch`."""
    return {
        "auth": [tuple(settings.auth.split(":", 1))] if settings.auth else None,
        "server_name": settings.host,
        "server_port": settings.port or None,  # None: the first free one
        "theme": THEME,
        "allowed_paths": [str(folder) for folder in PUBLIC_FOLDERS],
        "css_paths": [ASSETS / "style.css"],
        "head": f"<script>{(ASSETS / 'page.js').read_text(encoding='utf-8')}</script>",
        "max_file_size": int(settings.max_upload_mb * 1e6),
        "ssr_mode": False,
        "show_error": False,
        "quiet": False,
        "i18n": gr.I18n(**{"zh-CN": LACKING_IN_CHINESE}),
        "app_kwargs": {"middleware": [Middleware(LanguageOfRequest)]},
    }
