"""SeeSay: ask anything about a picture or a video.

`python app.py --help` lists the settings, `python app.py doctor` tells what this machine lacks.
"""

import logging
import os
import sys


def main(argv: list[str] | None = None) -> None:
    """Read the settings, build the app and serve it; torch is imported once the page is up."""
    from pipelines.core.settings import read_settings
    from pipelines.models.catalogue import CATALOGUE

    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["doctor"]:
        from pipelines.doctor.command import main as examine

        sys.exit(examine(given[1:]))
    settings = read_settings(given, taken=CATALOGUE)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.work_dir)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    from components.page import PUBLIC_FOLDERS, build_app, launch_options
    from components.server.health import service_routes
    from components.server.rate_limit import close_on_signals, serve_until_closed
    from components.server.services import Services
    from pipelines.compute.device import warm_up
    from pipelines.media import isolation
    from pipelines.search.indexes import start_expiring
    from pipelines.serving.memory import share_free_memory, start_trimming, start_unloading
    from pipelines.serving.work_dir import start_sweeping
    from pipelines.serving.zero_gpu import is_zero_gpu, make_store

    share_free_memory()
    if settings.decoders == "apart" and not is_zero_gpu():  # there all work is apart
        isolation.enable()
    start_sweeping(settings.work_dir, PUBLIC_FOLDERS)
    store = make_store(settings)
    services = Services.of(store)
    app = build_app(services)
    close_on_signals(app.rules)
    try:
        app.launch(**launch_options(settings, service_routes(store, app)), prevent_thread_lock=True)
    except OSError as error:
        if "empty port" not in str(error):  # gradio's words for a port that is in use
            raise
        sys.exit(
            f"Port {settings.port} is in use. End what runs there, or choose another: --port N"
        )
    start_unloading(store, settings.idle_minutes * 60, release=services.indexes.release_idle)
    start_expiring(services.indexes, settings.index_hours * 3600)
    start_trimming(store)
    store.sources.start_probe()
    warm_up()
    serve_until_closed(app, app.rules, settings.grace_s)


if __name__ == "__main__":
    main()
