"""A tiny random ViCLIP in the published file format, and the app over a bundle that holds it."""

import shutil
from pathlib import Path

import torch

from demo_models.training.viclip.model import save_viclip
from pipelines.models.viclip.configuration_viclip import ViClipConfig
from pipelines.models.viclip.modeling_viclip import ViClipModel
from pipelines.weights.locate import BUNDLE

TINY = ViClipConfig(
    image_size=32,
    patch_size=8,
    num_frames=8,
    vision_width=32,
    vision_layers=2,
    vision_heads=4,
    text_width=32,
    text_layers=2,
    text_heads=4,
    embed_dim=24,
)

#: Runs `app.py` over another bundle; see `tests.support.app_process.serve`.
SERVE_CODE = """
import sys
from pathlib import Path
import pipelines.weights.locate
pipelines.weights.locate.BUNDLE = Path({bundle!r})
import app
app.main(sys.argv[1:])
"""


def make_tiny_viclip(folder: Path, *, seed: int = 0) -> Path:
    """Save a random model whose vectors of different inputs differ."""
    torch.manual_seed(seed)
    model = ViClipModel(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    save_viclip(model, folder)
    return folder


def make_bundle(folder: Path) -> Path:
    """Return a bundle of the real demo checkpoints, with a tiny `demo-viclip` where none is."""
    for checkpoint in BUNDLE.iterdir():
        if checkpoint.is_dir():
            (folder / checkpoint.name).symlink_to(checkpoint)
    if not (folder / "demo-viclip").exists():
        made = make_tiny_viclip(folder / "demo-viclip")
        shutil.copy(BUNDLE / "demo-clip" / "demo.json", made)
    return folder
