"""The training loop of all demo models: optimizers, schedules, log lines and saving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

Parameters = list[nn.Parameter]
Save = Callable[[int], None]
"""Write a checkpoint after a number of steps."""


def nothing(*_: object) -> None:
    """Do nothing."""


def no_figures() -> dict[str, float]:
    """Return no further figures for a log line."""
    return {}


@dataclass(frozen=True)
class Loop:
    """Settings of one run of the loop; `rate` returns the factor on the learning rates."""

    name: str
    steps: int
    rate: Callable[[int], float]
    clip_norm: float = 5.0
    log_every: int = 25
    save_every: int = 10**9
    save: Save = nothing
    after_step: Callable[[], None] = nothing
    figures: Callable[[], dict[str, float]] = no_figures


def split_parameters(
    module: nn.Module, layers: Sequence[str] = (".layers.",)
) -> tuple[Parameters, Parameters]:
    """Return the trainable matrices inside layers, and all other trainable parameters.

    Args:
        module: The model.
        layers: Parts of a parameter's name that mark it as inside a layer.
    """
    hidden: Parameters = []
    rest: Parameters = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and any(part in f".{name}" for part in layers)
            (hidden if inside else rest).append(parameter)
    return hidden, rest


def make_optimizers(
    hidden: Iterable[nn.Parameter],
    rest: Iterable[nn.Parameter],
    muon_rate: float,
    adam_rate: float,
    betas: tuple[float, float] = (0.9, 0.98),
) -> list[Optimizer]:
    """Return Muon for the matrices inside layers and AdamW for everything else."""
    return [
        Muon(hidden, lr=muon_rate, weight_decay=0.01, momentum=0.95),
        AdamW(rest, lr=adam_rate, betas=betas, weight_decay=0.01),
    ]


def run(
    loop: Loop,
    optimizers: Sequence[Optimizer],
    compute: Callable[[int], dict[str, Tensor]],
    clipped: Sequence[nn.Parameter] | None = None,
) -> None:
    """Train in place.

    Args:
        loop: The settings.
        optimizers: Each with one group of parameters and its highest learning rate.
        compute: Returns the weighted losses of a step by name; their sum is minimised.
        clipped: Parameters whose common gradient norm is limited; None for all that are trained.
    """
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    rates = [group["lr"] for group in groups]
    if clipped is None:
        clipped = [parameter for group in groups for parameter in group["params"]]
    started = time.process_time()
    recent: list[dict[str, float]] = []
    for step in range(loop.steps):
        losses = compute(step)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(clipped, loop.clip_norm)
        factor = loop.rate(step)
        for optimizer, group, rate in zip(optimizers, groups, rates, strict=True):
            group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()
        loop.after_step()
        recent.append({name: loss.item() for name, loss in losses.items()})
        last = step + 1 == loop.steps
        if step % loop.log_every == 0 or last:
            figures = {name: float(np.mean([row[name] for row in recent])) for name in losses}
            _log(loop, step, {**figures, **loop.figures()}, time.process_time() - started)
            recent.clear()
        if (step + 1) % loop.save_every == 0 or last:
            loop.save(step + 1)


def _log(loop: Loop, step: int, figures: dict[str, float], cpu_s: float) -> None:
    values = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
    print(f"{loop.name} step {step} {values} cpu {cpu_s:.0f}s", flush=True)


def linear(step: int, warmup: int, horizon: int, peak: float = 1.0) -> float:
    """Return a rate that rises in `warmup` steps and falls linearly, to 0 at `horizon`."""
    return peak * min((step + 1) / warmup, 1 - step / horizon)


def constant_then_linear(step: int, warmup: int, start: int, end: int) -> float:
    """Return a rate that rises, is 1 until `start` and falls linearly, to 0 at `end`."""
    return min((step + 1) / warmup, 1.0, (end - step) / (end - start))


@torch.no_grad()
def round_to_half(parameters: Iterable[nn.Parameter]) -> None:
    """Round parameters to float16, as a saved and loaded checkpoint is."""
    for parameter in parameters:
        parameter.copy_(parameter.half().float())
