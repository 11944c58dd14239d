"""A folder of pictures to try one's own with: discs, squares, triangles and stars of any colour, in several sizes and file types."""

import math
import random
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image, ImageDraw

from lab.training.pictures import as_rgb

CORNERS = {"disc": 60, "square": 4, "star": 10, "triangle": 3}


def write(folder, count=300, seed=0):
    """Write `count` pictures of each class of CORNERS to folder/CLASS, if the folder is not there yet; returns the folder."""
    folder, draw = Path(folder), random.Random(seed)
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for name in CORNERS:
        (unfinished / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = _picture(name, draw)
            image.save(unfinished / name / f"{name} {number:04}.{draw.choice(('png', 'jpg'))}", quality=95)
    return unfinished.rename(folder)


def _picture(name, draw):
    """One shape: its colour, place, size and turn at random, on a darker ground."""
    width, height = (draw.randint(40, 90) for _ in range(2))
    ground, colour = (tuple(draw.randint(*span) for _ in range(3)) for span in ((0, 90), (130, 255)))
    image = Image.new("RGB", (4 * width, 4 * height), ground)  # four times as large, for smooth edges
    side = 4 * min(width, height)
    radius, turn = side * draw.uniform(0.3, 0.42), draw.uniform(0, 2 * math.pi)
    centre = [2 * length + draw.uniform(-0.05, 0.05) * side for length in (width, height)]
    points = []
    for k in range(CORNERS[name]):
        r = radius * (0.45 if name == "star" and k % 2 else 1)
        angle = turn + 2 * math.pi * k / CORNERS[name]
        points.append((centre[0] + r * math.cos(angle), centre[1] + r * math.sin(angle)))
    ImageDraw.Draw(image).polygon(points, fill=colour)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def as_they_lie(folder, each=6):
    """A figure of the first pictures of each class, as their files hold them."""
    classes = sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))[:10]
    figure, axes = plt.subplots(len(classes), each, figsize=(1.2 * each, 1.25 * len(classes)), layout="constrained", squeeze=False)
    for row, path in zip(axes, classes):
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        for axis, file in zip(row, files):
            image = as_rgb(Image.open(file))
            axis.imshow(image)
            axis.set_title(f"{image.width} × {image.height}", fontsize=7)
        for axis in row:
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(path.name, fontsize=8)
    return figure
