"""Whether uploads can be taken: the folder can be written and the disk has room. Torch-free."""

import shutil
import time

from pipelines.core.settings import Settings

#: What a visitor can do about it.
THEN = "Try again later, or tell whoever runs this server."


def no_uploads_because(settings: Settings) -> str:
    """Return why uploads cannot be taken, "" where they can; names no path of the server."""
    try:
        settings.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = settings.work_dir / f"tmp{time.monotonic_ns()}"
        probe.touch()
        probe.unlink()
        free_mb = shutil.disk_usage(settings.work_dir).free / 1e6
    except OSError as error:
        return unwritable(error)
    if free_mb < settings.max_upload_mb:
        return (
            f"The disk for uploads has {free_mb:,.0f} MB free, less than the largest upload "
            f"({settings.max_upload_mb:,.0f} MB)."
        )
    return ""


def unwritable(error: OSError) -> str:
    """Return in a sentence, without a path, what the system said when a file was to be written."""
    return f"The folder for uploads cannot be written: {error.strerror}."
