"""The occlusion map."""

import numpy as np
from PIL import Image

from demo_models.evaluation.localisation import occlusion_map


def test_occlusion_map_peaks_where_the_match_comes_from():
    pixels = np.full((64, 64, 3), 255, dtype=np.uint8)
    pixels[40:52, 8:20] = (255, 0, 0)

    def redness(images, text):
        return [float((np.asarray(image)[..., 1] == 0).mean()) for image in images]

    drops = occlusion_map(redness, Image.fromarray(pixels), "red square")
    row, column = divmod(int(drops.argmax()), 64)
    assert drops.shape == (64, 64)
    assert 38 <= row < 54
    assert 6 <= column < 22
