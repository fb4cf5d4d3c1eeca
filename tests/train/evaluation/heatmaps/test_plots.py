"""Proves the images of heatmaps on a page: colours by value, the outline of the truth, one image for each map."""

import io

import numpy as np
from PIL import Image

from cavsync.train.evaluation.heatmaps.plots import OPACITY, PANEL_PX, heatmap_set

# What JPEG changes.
TOLERANCE = 12
HOT, COLD = np.array([252, 255, 164]), np.array([0, 0, 4])  # the ends of matplotlib's inferno


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)), np.float32)


def test_each_map_is_an_image_from_dark_to_yellow_on_a_grey_frame() -> None:
    image = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    halves = np.repeat([[3.0, 7.0]], 2, axis=0)
    shown = heatmap_set(image, np.zeros((64, 64), bool), {"halves": halves, "other": halves.T}, "row 1")
    assert shown.caption == "row 1"
    assert [one.caption for one in shown.images] == ["image", "halves", "other"]
    frame, across, down = (pixels(one.content) for one in shown.images)
    assert frame.shape == (PANEL_PX, PANEL_PX, 3)
    np.testing.assert_allclose(frame[128, 128], (200, 100, 50), atol=TOLERANCE)
    for panel in (across, down.transpose(1, 0, 2)):
        for column, colour in ((4, COLD), (-5, HOT)):
            expected = (1 - OPACITY) * grey + OPACITY * colour
            np.testing.assert_allclose(panel[128, column], expected, atol=TOLERANCE)


def test_a_map_without_differences_is_drawn() -> None:
    shown = heatmap_set(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), {"flat": np.ones((2, 2))}, "")
    np.testing.assert_allclose(pixels(shown.images[1].content)[9, 9], OPACITY * COLD, atol=TOLERANCE)


def test_the_outline_runs_around_the_truth_and_along_the_images_edge() -> None:
    truth = np.zeros((64, 64), bool)
    truth[16:48, 32:] = True  # reaches the right edge
    grey = np.full((64, 64, 3), 120, np.uint8)
    panel = pixels(heatmap_set(grey, truth, {}, "").images[0].content).mean(axis=-1)
    scale = PANEL_PX // 64
    white = panel > 200
    assert white[32 * scale, 32 * scale - 2 : 32 * scale + 2].any()  # left
    assert white[16 * scale - 2 : 16 * scale + 2, 48 * scale].any()  # top
    assert white[32 * scale, -2:].any()  # closed at the edge
    assert not white[: 16 * scale - 6].any()
    assert not white[20 * scale : 44 * scale, 36 * scale : -8].any()
    for all_or_nothing in (np.zeros_like(truth), np.ones_like(truth)):
        plain = pixels(heatmap_set(grey, all_or_nothing, {}, "").images[0].content)
        np.testing.assert_allclose(plain, 120, atol=TOLERANCE)
