"""The house has floors: an import goes down, never up or around. Read from the source, so that no import has to run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground. What stands on one floor may import its own and all below, but for what BESIDE says.
FLOORS = [("config",), ("ResUNet", "lab"), ("DDPM",), ("utils",), ("course", "explorations")]
BESIDE = {("ResUNet", "lab"), ("lab", "ResUNet"), ("course", "explorations"), ("explorations", "course")}
DOORS = {"lab/__main__.py", "course/__main__.py"}  # the command lines may import from every floor, and nothing imports them
ROOMS = [
    ("check",),
    ("speed",),
    ("diffusion",),
    ("editing", "display", "writing", "samplers"),
    ("training",),
    ("quality",),
    ("speed.bench", "playground", "distillation"),
]
OURS = {name for floor in FLOORS for name in floor}
EXPLORED = {path.stem for path in (ROOT / "explorations").glob("*.py")}
FILES = [*ROOT.glob("*.py"), *(path for name in ("lab", "course", "explorations") for path in (ROOT / name).rglob("*.py"))]


def imported(path):
    """The full names of the modules and names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: an import names its module in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name):
    return next(i for i, names in enumerate(FLOORS) if name in names)


def room(dotted):
    """Where in lab a module stands: the last of ROOMS that its name begins with."""
    inside = dotted.removeprefix("lab.")
    return max((i for i, names in enumerate(ROOMS) if any(inside == name or inside.startswith(f"{name}.") for name in names)), default=None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_import_goes_down(path):
    inside = path.relative_to(ROOT)
    own = inside.parts[0].removesuffix(".py")
    for name in imported(path):
        top = "explorations" if name.split(".")[0] in EXPLORED else name.split(".")[0]
        assert "__main__" not in name.split("."), f"{inside} imports a command line, a door and no room"
        if top in OURS and inside.as_posix() not in DOORS:
            assert floor(top) <= floor(own) and (own, top) not in BESIDE, f"{inside} imports {name}, which stands above or beside it"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.relative_to(ROOT).parts[0] == "lab"], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_in_lab_a_room_knows_only_those_below(path):
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    own = room(name)
    assert own is not None or name in ("lab", "lab.__main__"), f"{name} stands in none of ROOMS"
    for name in imported(path):
        if name.startswith("lab.") and own is not None and room(name) is not None:
            assert room(name) <= own, f"{path.relative_to(ROOT)} imports {name}, which stands above it"
