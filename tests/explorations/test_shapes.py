"""explorations/shapes.py: the folder of pictures for who has none, and the figure of a folder as it lies there."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import shapes
from lab.training import pictures


def test_the_same_pictures_each_time_of_several_sizes_and_kinds(tmp_path):
    folders = [shapes.write(tmp_path / name, count=8) for name in ("one", "two")]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1] and len(files[0]) == 8 * len(shapes.CORNERS) and {path.suffix for path in files[0]} == {".png", ".jpg"}
    assert all((folders[0] / path).read_bytes() == (folders[1] / path).read_bytes() for path in files[0])
    assert len({Image.open(folders[0] / path).size for path in files[0]}) > 4


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    folder = shapes.write(tmp_path / "shapes", count=2)
    (folder / "star" / "mine.png").write_bytes(b"")
    shapes.write(tmp_path / "shapes", count=2)
    assert (folder / "star" / "mine.png").exists()


def test_a_folder_that_was_not_finished_is_written_anew(tmp_path, monkeypatch):
    save, drawn = Image.Image.save, []

    def stops(image, path, **how):
        drawn.append(path)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        save(image, path, **how)

    monkeypatch.setattr(Image.Image, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        shapes.write(tmp_path / "shapes", count=2)
    assert not (tmp_path / "shapes").exists()
    assert len(list(shapes.write(tmp_path / "shapes", count=2).rglob("*.*"))) == 2 * len(shapes.CORNERS)


def test_the_shapes_are_a_set_to_train_on(tmp_path):
    """A disc is round: at 32 x 32 its bright part has about the area of a disc, a triangle's is smaller than a square's."""
    folder = shapes.write(tmp_path / "shapes", count=30)
    assert pictures.settings(folder)["classes"] == sorted(shapes.CORNERS)
    dataset = pictures.dataset(None, str(folder))
    light = np.array([picture.max(-1) > 128 for picture in dataset.data]).mean((1, 2))
    area = {name: light[(dataset.targets == k).numpy()].mean() for k, name in enumerate(dataset.classes)}
    assert area["star"] < area["square"] < area["disc"] and area["triangle"] < area["square"]


def test_the_figure_shows_the_files_with_their_sizes(tmp_path):
    folder = shapes.write(tmp_path / "shapes", count=3)
    figure = shapes.as_they_lie(folder, each=2)
    assert len(figure.axes) == 2 * len(shapes.CORNERS) and figure.axes[0].get_ylabel() == "disc"
    width, height = Image.open(sorted((folder / "disc").iterdir())[0]).size
    assert figure.axes[0].get_title() == f"{width} × {height}"
    plt.close(figure)
