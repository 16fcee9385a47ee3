"""Errors about missing weights, with the settings that help."""

import errno
from typing import Any

from pipelines.core.errors import WeightsError
from pipelines.core.messages import Message
from pipelines.core.settings import Settings
from pipelines.core.spec import ModelSpec
from pipelines.weights.modelscope import modelscope_endpoint
from pipelines.weights.progress import FetchProgress

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def source_endpoint(settings: Settings) -> str:
    """Return the address of the source of weights."""
    return modelscope_endpoint() if settings.source == "modelscope" else settings.endpoint


def missing_demo(spec: ModelSpec) -> WeightsError:
    """Return the error for a missing bundled model."""
    return WeightsError(
        "The bundled model {model!r} is missing from this copy of SeeSay. Clone the "
        "repository again, or run `make demo-models`.",
        model=spec.key,
    )


def unreachable(spec: ModelSpec, settings: Settings, reason: str = "") -> WeightsError:
    """Return the error for missing weights while the hub is unreachable."""
    if settings.offline:
        return WeightsError(
            "The weights of {model} are not on this machine and HF_HUB_OFFLINE forbids to "
            "download them. Unset it, or point --models-dir at a folder that holds them.",
            model=spec.key,
        )
    other = (
        "leave --source out" if settings.source == "modelscope" else "set HF_ENDPOINT to a mirror"
    )
    why = Message(" ({reason})", reason=Message(reason)) if reason else ""
    return WeightsError(
        "The weights of {model} are not on this machine and {source} does not answer{why}. "
        "Check the network or a proxy (HTTPS_PROXY), {other}, or point --models-dir at a "
        "folder that holds them. The demo models need no network.",
        model=spec.key,
        source=source_endpoint(settings),
        why=why,
        other=Message(other),
    )


def under_way(spec: ModelSpec, progress: FetchProgress) -> WeightsError:
    """Return the error for a request beyond the limit of requests that wait for a download."""
    total = progress.total_bytes
    share = f" ({100 * progress.done_bytes // total} %)" if total else ""
    return WeightsError(
        "{model} is being downloaded{share} and enough requests wait for it; try again in a "
        "while. The models that are on this machine answer meanwhile.",
        model=Message(spec.title),
        share=share,
        title="Download under way",
    )


def stalled(spec: ModelSpec, settings: Settings, limit_s: float) -> WeightsError:
    """Return the error for a stalled download."""
    return WeightsError(
        "The download of {repo} stands still: no data for {seconds:.0f} s from {source}. What "
        "came is kept; try again later, or {other}.",
        seconds=limit_s,
        **_values(spec, settings),
    )


def incomplete(spec: ModelSpec, settings: Settings) -> WeightsError:
    """Return the error for a repository without a complete checkpoint."""
    return WeightsError(
        "{repo} was downloaded from {source} but holds no complete checkpoint: config.json, "
        "weights, tokenizer and image processor are needed. Try again, {other}, or point "
        "--models-dir at a folder that holds them.",
        **_values(spec, settings),
    )


def explain(error: Exception, spec: ModelSpec, settings: Settings) -> WeightsError:
    """Return the error for visitors for an error of a library."""
    text = _of_the_disk(error, spec) or _of_the_hub(error, spec, settings)
    return WeightsError(
        text
        or Message(
            "The download of {repo} from {source} broke off. What came is kept and the next "
            "try goes on from there; check the network, or {other}.",
            **_values(spec, settings),
        )
    )


def _of_the_disk(error: Exception, spec: ModelSpec) -> str:
    if not isinstance(error, OSError):
        return ""
    if error.errno in _FULL:
        return Message(
            "The disk is full: {repo} needs {size:.1f} GB. Free some space, or set "
            "HF_HOME to a larger disk.",
            repo=spec.repo,
            size=spec.download_gb,
        )
    if error.errno in _READ_ONLY:
        return Message(
            "{repo} cannot be kept: the folder of downloaded models is not writable. Set "
            "HF_HOME to one that is, or point --models-dir at a folder that holds the "
            "model.",
            repo=spec.repo,
        )
    return ""


def _of_the_hub(error: Exception, spec: ModelSpec, settings: Settings) -> str:
    from huggingface_hub import errors as hub

    values = _values(spec, settings)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return unreachable(spec, settings, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set").message
    if isinstance(error, hub.GatedRepoError):
        token = (
            "unset HF_ENDPOINT (a mirror is never sent your token) and set HF_TOKEN"
            if settings.is_mirror
            else "set HF_TOKEN"
        )
        return Message(
            "{repo} is gated: accept its conditions on its page at huggingface.co, then "
            "{token} to a token of your account.",
            token=Message(token),
            **values,
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return Message(
            "{source} has {repo} but not the revision {revision}. Update SeeSay, or {other}.",
            revision=spec.revision,
            **values,
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return Message(
            "{source} has no repository {repo} that you may read. If HF_ENDPOINT is a "
            "mirror, try another; if the repository is private, set HF_TOKEN.",
            **values,
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        return ""
    return Message(
        "{source} answered with error {status} for {repo}. Try again later, or {other}.",
        status=status,
        **values,
    )


def _values(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    source = source_endpoint(settings)
    return {"repo": spec.repo, "source": source, "other": _elsewhere(settings)}


def _elsewhere(settings: Settings) -> Message:
    if settings.source == "modelscope":
        return Message("leave --source out to use the Hugging Face hub")
    return Message(
        "set HF_ENDPOINT to another mirror" if settings.is_mirror else "set HF_ENDPOINT to a mirror"
    )
