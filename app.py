"""SeeSay: see an image or a video, say what it is. `python app.py --help` lists the settings."""

import logging
import os
import signal
import sys


def main(argv: list[str] | None = None) -> None:
    """Read the settings, build the app and serve it; torch is imported once the page is up."""
    from pipelines.settings import read_settings

    settings = read_settings(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.work_dir)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    from components.layout import PUBLIC_FOLDERS, build_app, launch_options
    from pipelines import apart
    from pipelines.runtime import warm_up
    from pipelines.store import PipelineStore
    from pipelines.sweeping import start_sweeping

    if settings.decoders == "apart":
        apart.begin()
    start_sweeping(settings.work_dir, PUBLIC_FOLDERS)
    store = PipelineStore(settings)
    app = build_app(store)
    app.launch(**launch_options(settings), prevent_thread_lock=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: ends in order
    store.sources.start_probe()
    warm_up()
    app.block_thread()


if __name__ == "__main__":
    main()
