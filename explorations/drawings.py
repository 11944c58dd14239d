"""A reader's drawings and pictures, in the form that a model takes: digits like MNIST's, pictures for DeepFloyd."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from scipy import ndimage

from lab.training.pictures import as_rgb, is_deep

BOX, SIZE = 20, 28  # MNIST: the digit fits a box of 20x20 pixels, its centre of mass is the centre of 28x28
PEN = 2.5  # pixels: a thinner line would fade as it shrinks
CANVAS = 200  # pixels of the longer side of a drawing given as strokes
SEVEN = [[(0, 0), (1, 0), (0.35, 1.8)], [(0.25, 0.9), (0.95, 0.9)]]  # strokes of points (x, y)
INK = 0.25  # of the darkest: above this a pixel is drawn, and not photographic grain or JPEG noise


def digit(picture):
    """A drawing as a digit of MNIST: (1, 1, 28, 28) in [0, 1], white on black.

    picture: a path, or a PIL image of any size and mode, dark on light or light on dark or on nothing (transparent).
    Raises ValueError for a picture in which nothing is drawn.
    """
    ink = _ink(picture)
    if not (ink > INK).any():
        raise ValueError("nothing is drawn there; allowed is a picture with one digit on a plain ground")
    rows, columns = (ink > INK).nonzero()
    ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = BOX / max(ink.shape)
    ink = _thickened(ink, PEN / scale)
    scale = BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR))
    small = (small / small.max()).clip(0, 1)
    centre = ndimage.center_of_mass(small)
    top, left = (min(max(round((SIZE - 1) / 2 - at), 0), SIZE - side) for at, side in zip(centre, small.shape))
    result = torch.zeros(1, 1, SIZE, SIZE)
    result[0, 0, top : top + height, left : left + width] = torch.from_numpy(small)
    return result


def strokes(lines, pen=0.13):
    """A drawing from its lines as a digit: each a list of points (x, y), y downwards, in any unit. pen: its width / longer side.

    Raises ValueError for points that are no pairs of finite numbers.
    """
    try:
        points = [np.asarray(line, dtype=float) for line in lines]
    except (TypeError, ValueError) as error:
        raise ValueError(f"strokes are {lines!r}; allowed are lists of points (x, y)") from error
    if not points or not all(line.ndim == 2 and line.shape[1] == 2 and len(line) and np.isfinite(line).all() for line in points):
        raise ValueError(f"strokes are {lines!r}; allowed are one line or more, each of one finite point (x, y) or more")
    low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
    unit = CANVAS / max((high - low).max(), 1e-9)
    radius = pen * CANVAS / 2
    image = Image.new("L", tuple(int(side) for side in np.ceil((high - low) * unit + 4 * radius)))
    draw = ImageDraw.Draw(image)
    for line in points:
        line = [tuple(point) for point in (line - low) * unit + 2 * radius]
        draw.line(line, fill=255, width=round(2 * radius))
        for x, y in line:  # round ends and corners
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return digit(image)


def seven():
    """A drawn 7, for readers who have no drawing: (1, 1, 28, 28) in [0, 1]."""
    return strokes(SEVEN)


def picture(source, size):
    """A picture from a path, a URL or PIL, its middle square at size x size: (1, 3, size, size) in [0, 1]."""
    from diffusers.utils import load_image

    try:
        image = load_image(source if isinstance(source, Image.Image) else str(source), convert_method=as_rgb)  # turned as its EXIF says
    except UnidentifiedImageError as error:
        raise ValueError(f"{source} is no picture: {error}") from error
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def _ink(picture):
    """How much is drawn at each pixel, (H, W) float32 from 0 to 1: the distance from the ground, the border's median."""
    image = ImageOps.exif_transpose(picture if isinstance(picture, Image.Image) else Image.open(picture))  # as a phone held it
    if is_deep(image):
        grey = np.asarray(image, dtype=np.float32)
    else:
        coloured = np.asarray(image.convert("RGBA"), dtype=np.float32)
        alpha, grey = coloured[..., 3] / 255, coloured[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
        if alpha.min() < 1:  # put the drawing on a ground of contrast
            ground = 255.0 if (grey * alpha).sum() < 127.5 * alpha.sum() else 0.0
            grey = alpha * grey + (1 - alpha) * ground
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(border))
    return ink / ink.max() if ink.max() > 0 else ink


def _thickened(ink, pen):
    """The drawing with lines at least `pen` pixels thick, measured as twice the largest distance from middle to edge."""
    drawn = ink > INK
    thick = 2 * ndimage.distance_transform_edt(np.pad(drawn, 1)).max() - 1
    grow = (pen - thick) / 2
    if grow <= 0:
        return ink
    room = int(np.ceil(grow))
    return np.maximum(np.pad(ink, room), ndimage.distance_transform_edt(~np.pad(drawn, room)) <= grow).astype(np.float32)
