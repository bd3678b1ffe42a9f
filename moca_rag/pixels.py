"""Turns pictures into the uint8 patch rows that a Qwen2.5-VL vision tower reads; needs numpy and Pillow only."""

import math

import numpy as np
from PIL import Image

from .errors import ConfigError
from .records import Floats, PixelBudget, Pixels

PATCH_SIDE = 14
MERGE_SIDE = 2
TEMPORAL_COPIES = 2
MAX_ASPECT_RATIO = 200

# The mean and deviation of CLIP's training images, as in Qwen2.5-VL's own image processor.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def smart_resize(height: int, width: int, budget: PixelBudget) -> tuple[int, int]:
    """The (height, width) at which an encoder sees an image: multiples of `budget.factor`, area within the budget.

    Qwen2.5-VL's own rule, to the pixel. Raises ConfigError on an empty image or one over 200 times as long as wide.

    >>> smart_resize(2339, 1654, PixelBudget())  # A4 at 200 dpi: 988 visual tokens
    (1064, 728)
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise ConfigError(
            f"an image of {width} x {height} pixels cannot be embedded: "
            f"its long side may be at most {MAX_ASPECT_RATIO} times its short side"
        )
    factor = budget.factor
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    if new_height * new_width > budget.max_pixels:
        shrink = math.sqrt(height * width / budget.max_pixels)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif new_height * new_width < budget.min_pixels:
        grow = math.sqrt(budget.min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return new_height, new_width


def fit_image(image: Pixels, budget: PixelBudget) -> Pixels:
    """The image at its `smart_resize` size (bicubic); one that has that size already comes back untouched.

    Raises ConfigError on anything but uint8 RGB of shape [H, W, 3].

    >>> fit_image(np.zeros((300, 700, 3), np.uint8), PixelBudget()).shape
    (308, 700, 3)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"an image must be uint8 RGB of shape [H, W, 3], not {image.dtype} of {list(image.shape)}")
    height, width = smart_resize(image.shape[0], image.shape[1], budget)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def patchify(image: Pixels) -> Pixels:
    """Patch rows [P, 588] of an image [H, W, 3] whose sides are multiples of 28.

    Rows stand in the vision tower's order, the four patches of one merged token together; a row holds
    (channel, y, x). The second temporal copy that the model expects is equal, so it is not stored.

    >>> patchify(np.zeros((56, 84, 3), np.uint8)).shape
    (24, 588)
    """
    block = PATCH_SIDE * MERGE_SIDE
    rows, columns = image.shape[0] // block, image.shape[1] // block
    cells = image.reshape(rows, MERGE_SIDE, PATCH_SIDE, columns, MERGE_SIDE, PATCH_SIDE, 3)
    cells = cells.transpose(0, 3, 1, 4, 6, 2, 5)
    return np.ascontiguousarray(cells).reshape(-1, 3 * PATCH_SIDE * PATCH_SIDE)


def normalise_patches(patches: Pixels) -> Floats:
    """Normalised `pixel_values` [P, 1176] of patch rows [P, 588]: channel, temporal copy, y, x.

    Equal to the numbers of transformers' Qwen2VLImageProcessor; they are also what masked autoencoding
    reconstructs (MoCa, section 3.1).

    >>> normalise_patches(np.zeros((4, 588), np.uint8)).shape
    (4, 1176)
    """
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (PIXEL_MEAN, PIXEL_STD))
    scaled = (patches.reshape(-1, 3, PATCH_SIDE * PATCH_SIDE) * (1 / 255)).astype(np.float32)
    normal = (scaled - mean) / std
    return np.repeat(normal[:, :, None], TEMPORAL_COPIES, axis=2).reshape(len(patches), -1)
