"""SeeSay: see an image or a video, say what it is. `python app.py --help` lists the settings."""

import logging
import os
import sys


def main(argv: list[str] | None = None) -> None:
    """Read the settings, build the app and serve it; torch is imported once the page is up."""
    from pipelines.settings import read_settings

    settings = read_settings(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.work_dir)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    from components.house import close_on_signals, serve_until_closed
    from components.layout import PUBLIC_FOLDERS, build_app, launch_options
    from pipelines import apart
    from pipelines.idle import start_unloading
    from pipelines.runtime import warm_up
    from pipelines.store import PipelineStore
    from pipelines.sweeping import start_sweeping

    if settings.decoders == "apart":
        apart.begin()
    start_sweeping(settings.work_dir, PUBLIC_FOLDERS)
    store = PipelineStore(settings)
    app = build_app(store)
    close_on_signals(app.house)
    app.launch(**launch_options(settings), prevent_thread_lock=True)
    start_unloading(store, settings.idle_minutes * 60)
    store.sources.start_probe()
    warm_up()
    serve_until_closed(app, app.house, settings.grace_s)


if __name__ == "__main__":
    main()
