"""SeeSay: see an image or a video, say what it is.

`python app.py --help` lists the settings, `python app.py doctor` tells what this machine lacks.
"""

import logging
import os
import signal
import sys


def main(argv: list[str] | None = None) -> None:
    """Read the settings, build the app and serve it; torch is imported once the page is up."""
    from pipelines.settings import read_settings

    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["doctor"]:
        from pipelines.doctor.command import main as examine

        sys.exit(examine(given[1:]))
    settings = read_settings(given)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.work_dir)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    from components.layout import PUBLIC_FOLDERS, build_app, launch_options
    from components.service import service_routes
    from pipelines.runtime import warm_up
    from pipelines.sweeping import start_sweeping
    from pipelines.zero_gpu import make_store

    start_sweeping(settings.work_dir, PUBLIC_FOLDERS)
    store = make_store(settings)
    app = build_app(store)
    options = launch_options(settings, service_routes(store, app))
    app.launch(**options, prevent_thread_lock=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: ends in order
    store.sources.start_probe()
    warm_up()
    app.block_thread()


if __name__ == "__main__":
    main()
