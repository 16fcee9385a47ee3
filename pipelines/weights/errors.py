"""What a visitor reads when weights cannot be had: what happened, and which setting helps."""

import errno

from pipelines.core.errors import WeightsError
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.weights.modelscope import modelscope_endpoint
from pipelines.weights.progress import FetchProgress

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def source_endpoint(settings: Settings) -> str:
    """Return the address that weights come from."""
    return modelscope_endpoint() if settings.source == "modelscope" else settings.endpoint


def missing_demo(spec: ModelSpec) -> WeightsError:
    """Return the error for a bundled model that is not there."""
    return WeightsError(
        f"The bundled model {spec.key!r} is missing from this copy of SeeSay. "
        "Clone the repository again, or run `make demo-models`."
    )


def unreachable(spec: ModelSpec, settings: Settings, reason: str = "") -> WeightsError:
    """Return the error for weights that are on no disk while the hub is out of reach."""
    if settings.offline:
        return WeightsError(
            f"The weights of {spec.key} are not on this machine and HF_HUB_OFFLINE forbids to "
            "download them. Unset it, or point --models-dir at a folder that holds them."
        )
    other = (
        "leave --source out" if settings.source == "modelscope" else "set HF_ENDPOINT to a mirror"
    )
    why = f" ({reason})" if reason else ""
    return WeightsError(
        f"The weights of {spec.key} are not on this machine and {source_endpoint(settings)} does "
        f"not answer{why}. Check the network or a proxy (HTTPS_PROXY), {other}, or "
        "point --models-dir at a folder that holds them. The demo models need no network."
    )


def under_way(spec: ModelSpec, progress: FetchProgress) -> WeightsError:
    """Return the error for one request too many that would wait for a download."""
    total = progress.total_bytes
    share = f" ({100 * progress.done_bytes // total} %)" if total else ""
    return WeightsError(
        f"{spec.title} is being downloaded{share} and enough requests wait for it; try again in "
        "a while. The models that are on this machine answer meanwhile.",
        title="Download under way",
    )


def stalled(spec: ModelSpec, settings: Settings, limit_s: float) -> WeightsError:
    """Return the error for a download that does not move any more."""
    return WeightsError(
        f"The download of {spec.repo} stands still: no data for {limit_s:.0f} s from "
        f"{source_endpoint(settings)}. What came is kept; try again later, or "
        f"{_elsewhere(settings)}."
    )


def incomplete(spec: ModelSpec, settings: Settings) -> WeightsError:
    """Return the error for a repository that holds no checkpoint we can load."""
    return WeightsError(
        f"{spec.repo} was downloaded from {source_endpoint(settings)} but holds no complete "
        "checkpoint: config.json, weights, tokenizer and image processor are needed. Try again, "
        f"{_elsewhere(settings)}, or point --models-dir at a folder that holds them."
    )


def explain(error: Exception, spec: ModelSpec, settings: Settings) -> WeightsError:
    """Turn what a library raised into one message for the visitor."""
    text = _of_the_disk(error, spec) or _of_the_hub(error, spec, settings)
    return WeightsError(
        text
        or f"The download of {spec.repo} from {source_endpoint(settings)} broke off. What came is "
        "kept and the next try goes on from there; check the network, or "
        f"{_elsewhere(settings)}."
    )


def _of_the_disk(error: Exception, spec: ModelSpec) -> str:
    if not isinstance(error, OSError):
        return ""
    if error.errno in _FULL:
        return (
            f"The disk is full: {spec.repo} needs {spec.download_gb:.1f} GB. Free some space, or "
            "set HF_HOME to a larger disk."
        )
    if error.errno in _READ_ONLY:
        return (
            f"{spec.repo} cannot be kept: the folder of downloaded models is not writable. Set "
            "HF_HOME to one that is, or point --models-dir at a folder that holds the model."
        )
    return ""


def _of_the_hub(error: Exception, spec: ModelSpec, settings: Settings) -> str:
    from huggingface_hub import errors as hub

    where = source_endpoint(settings)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return unreachable(spec, settings, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set").message
    if isinstance(error, hub.GatedRepoError):
        token = (
            "unset HF_ENDPOINT (a mirror is never sent your token) and set HF_TOKEN"
            if settings.is_mirror
            else "set HF_TOKEN"
        )
        return (
            f"{spec.repo} is gated: accept its conditions on its page at huggingface.co, then "
            f"{token} to a token of your account."
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return (
            f"{where} has {spec.repo} but not the revision {spec.revision}. Update SeeSay, or "
            f"{_elsewhere(settings)}."
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return (
            f"{where} has no repository {spec.repo} that you may read. If HF_ENDPOINT is a "
            "mirror, try another; if the repository is private, set HF_TOKEN."
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        return ""
    return (
        f"{where} answered with error {status} for {spec.repo}. Try again later, or "
        f"{_elsewhere(settings)}."
    )


def _elsewhere(settings: Settings) -> str:
    if settings.source == "modelscope":
        return "leave --source out to use the Hugging Face hub"
    return (
        "set HF_ENDPOINT to another mirror" if settings.is_mirror else "set HF_ENDPOINT to a mirror"
    )
