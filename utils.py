"""The functions that the notebook calls: data, checks, the full training, and pictures of samples."""

import base64
import dataclasses
import functools
import sys
import traceback
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from config import DMConfig
from lab import display, samplers
from lab.check import finite
from lab.diffusion import few
from lab.training import checkpoint, experiment, pictures, pretrained
from lab.training.data import loader
from lab.training.trainer import Trainer, initialised, placed, seeded

__all__ = [
    "best_device", "make_dataloader", "make_dataloader_cifar10", "check", "check_forward", "check_sample", "solver", "sample_images",
    "load_model", "playground",
]  # fmt: skip

EPOCH_STEPS = 20  # DDIM steps of the picture after each epoch; check_sample and sample_images take all T


STUDENTS_WRITE = ("ResUNet.py", "DDPM.py")


def in_one_line(call):
    """Show errors in the students' code as one line in a notebook, not as a long traceback.

    The exception itself is unchanged.
    """

    @functools.wraps(call)
    def shown(*args, **options):
        try:
            return call(*args, **options)
        except Exception as error:
            if line := _line(error):
                error._render_traceback_ = lambda: [line]  # IPython calls this to show the error
            raise

    return shown


def _line(error):
    """One line about an error raised in the students' code; None for other errors."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if Path(frame.f_code.co_filename).name in STUDENTS_WRITE]
    if not frames:
        return None
    place = traceback.extract_tb(error.__traceback__)
    place = next(line for line in reversed(place) if Path(line.filename).name in STUDENTS_WRITE)
    what = f"{type(frames[-1].f_locals.get('self')).__name__}.{place.name} in {Path(place.filename).name}"
    if isinstance(error, NotImplementedError) and not str(error):  # torch's own has a text
        return f"{what} is not written yet."
    forgot = " Does a forward end without `return`?" if "NoneType" in str(error) else ""
    return f"{what} stops at line {place.lineno}, {place.line}: {type(error).__name__}: {error}.{forgot}"


def best_device():
    """The fastest device that this machine has: CUDA, Apple's MPS or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def make_dataloader(transform, batch_size, dir="./data", train=True, limit=None, data="mnist", input_dim=None, num_channels=None):
    """Batches of MNIST, images (B, 1, 28, 28) and labels (B,); downloaded to `dir` if needed, verified, shuffled if `train`.

    limit: use only the first `limit` images. data: "mnist", "fashion", "cifar10", or a folder of pictures with one sub-folder a
    class, which are cropped and resized to input_dim, (32, 32) if None, in num_channels, 3 if None. Raises ValueError for a
    batch_size or limit below 1 and for another set, and lab.training.data.DataError for damaged files.
    """
    return loader(pictures.dataset(transform, data, dir, train, input_dim, num_channels), batch_size, shuffle=train, limit=limit)


def make_dataloader_cifar10(transform, batch_size, dir="./data", train=True, limit=None):
    """Batches of CIFAR-10, images (B, 3, 32, 32) and labels (B,), in the same manner."""
    return make_dataloader(transform, batch_size, dir, train, limit, data="cifar10")


def check(section):
    """Look at a section of the course as pytest does, and print what is right, what is not, and the likely mistake.

    section: "network", "scheduler", "forward" or "sample". Raises ValueError for another.
    """
    tests = str(Path(__file__).parent / "tests")
    sys.path += [tests] if tests not in sys.path else []
    from checks.report import report
    from checks.sections import SECTIONS

    if section not in SECTIONS:
        raise ValueError(f"section = {section!r}; allowed is one of {', '.join(SECTIONS)}")
    print(*report(SECTIONS[section], SECTIONS[section].look()), sep="\n")


@in_one_line
def check_forward(dataloader, dmconfig, device, model_class=None):
    """Train a new model for one epoch, show the loss of each step, and return the model with its averaged weights.

    model_class: the class to train, by default ConditionalDDPM.
    """
    model = _new_model(dmconfig, device, model_class)
    dmconfig = dataclasses.replace(DMConfig.of(dmconfig), process=_process(model))
    trainer = Trainer(model, dataclasses.replace(dmconfig, epochs=1), len(dataloader), device)
    with seeded(device, dmconfig.seed, "epoch", 1), display.Reporter().bar(len(dataloader.dataset), " images", "train") as bar:
        losses = trainer.train_epoch(placed(dataloader, device), bar)
    display.step_curve(losses)
    plt.show()
    return trainer.averaged


@in_one_line
def check_sample(model, dmconfig, device):
    """A figure of `model.sample`: one row a class, ten samples a row, guided by dmconfig.omega."""
    if model is None:
        raise _told(ValueError("There is no model yet: check_forward trains it, in the section before."))
    dmconfig = DMConfig.of(dmconfig)
    images = _sample_classes(model.to(device).eval(), dmconfig)
    return _class_figure(images, dmconfig, f"{dmconfig.T} steps of sample, ω = {dmconfig.omega:g}")


@in_one_line
def solver(dmconfig, exp_name, train_loader, test_loader, resume=True, model_class=None):
    """Train in full and keep the result in ./save/<exp_name>; an interrupted experiment resumes where it stopped.

    Written there: best_checkpoint.pth (the lowest test loss), last_checkpoint.pth, log.csv, loss_curve.png, and
    images/generate_epoch_<k>.png, drawn in a few steps of DDIM. A finished experiment prints its history and returns.
    model_class: the class to train, by default ConditionalDDPM. Returns the history, a dict an epoch. Raises ValueError if the
    experiment was trained with other settings, or if resume=False and it exists already.
    """
    folder = experiment.folder_of(exp_name)
    if not resume and (folder / "last_checkpoint.pth").exists():
        raise ValueError(f"{folder} holds an experiment already; take another exp_name, delete it, or let it go on with resume=True")
    device = best_device()
    model = _new_model(dmconfig, device, model_class)
    dmconfig = dataclasses.replace(DMConfig.of(dmconfig), process=_process(model))

    def picture(model):
        steps = min(EPOCH_STEPS, dmconfig.T)
        generator = torch.Generator().manual_seed(0)
        # clip: at the noisiest steps of a steep schedule, computing x_0 divides by almost 0
        images = samplers.sample(
            model, _ten_of_each(dmconfig), dmconfig.omega, method="ddim", steps=steps, clip=True, generator=generator
        )
        return _class_figure(images, dmconfig, f"{steps} steps of DDIM, ω = {dmconfig.omega:g}")

    try:
        return experiment.run(model, dmconfig, folder, train_loader, test_loader, device, picture)
    except KeyboardInterrupt as error:
        raise _told(error, _standing(folder, dmconfig)) from None


def _standing(folder, dmconfig):
    """One line on how far an interrupted experiment got."""
    done = 0
    if (folder / "last_checkpoint.pth").exists():
        done = checkpoint.load(folder / "last_checkpoint.pth")["epoch"]
    return f"Interrupted after {done} of {dmconfig.epochs} epochs, which are kept in {folder}. The same call goes on from there."


def _told(error, line=None):
    """The error, which a notebook shows in one line."""
    line = line or str(error)
    error._render_traceback_ = lambda: [line]
    return error


@in_one_line
def sample_images(config, checkpoint_path, model_class=None):
    """The picture of `check_sample` from a checkpoint, by all T steps: an (H, W, 3) float array in [0, 1]."""
    return display.grid(_sample_classes(load_model(checkpoint_path, model_class=model_class), DMConfig.of(config)), columns=10)


def load_model(checkpoint_path=None, device=None, model_class=None):
    """A ConditionalDDPM in eval mode from a checkpoint; without a path, with the weights that ship with the project.

    checkpoint_path: a .pth of `solver`, or one of the .safetensors that ship. device: by default the fastest there is.
    model_class: the class that was trained, by default ConditionalDDPM. A distilled network (lab.distillation) is a FewSteps.
    Raises lab.training.checkpoint.CheckpointError for a file that is not a checkpoint of this course, or whose process (DDPM or
    flow) is not that of model_class.
    """
    device = device or best_device()
    path = Path(checkpoint_path or pretrained.DIGITS)
    state = (pretrained if path.suffix == ".safetensors" else checkpoint).load(path, device)
    dmconfig = DMConfig.from_dict(state.get("dmconfig", {}))  # the judge's weights have no dmconfig; fill refuses them
    model_class = model_class or (few.FewSteps if dmconfig.process == few.METHOD else _ddpm())
    if dmconfig.process != _process(model_class):
        raise checkpoint.CheckpointError(
            f"{path} holds weights of the process {dmconfig.process!r}, and {model_class.__name__} is {_process(model_class)!r}; "
            "name its class, as in load_model(path, model_class=ConditionalFM)"
        )
    model = model_class(_ddpm()(dmconfig) if model_class is few.FewSteps else dmconfig)
    model = model.to(device, memory_format=torch.channels_last)
    checkpoint.fill(model, state["model_state_dict"], path)
    return model.eval()


@in_one_line
def playground(model):
    """Show controls in a notebook that draw with `model`; without anywidget, and where the notebook is only read, a picture.

    Raises ValueError for a model that draws something else than the ten digits.
    """
    from IPython.display import display as show

    labels, generator = torch.arange(model.dmconfig.num_classes), torch.Generator().manual_seed(0)
    images = samplers.sample(model, labels, model.dmconfig.omega, generator=generator)
    picture = base64.b64encode(display.as_png(display.grid(images, 10))).decode()
    try:
        from lab.playground.widget import widget

        controls = widget(model)._repr_mimebundle_()[0]
    except ImportError:
        controls = {}
        print("Ten digits of this model. After `pip install anywidget` this cell shows controls that draw others.")
    show({**controls, "image/png": picture, "text/plain": "ten digits of the model"}, raw=True)


def _ddpm():
    from DDPM import ConditionalDDPM  # here, as a DDPM.py may begin with `from utils import *`

    return ConditionalDDPM


def _process(model):
    """The DMConfig.process of a model or a model class."""
    if few.FewSteps in (model, type(model)):
        return few.METHOD
    return "flow" if getattr(model, "output", "eps") == "flow" else "ddpm"


def _new_model(dmconfig, device, model_class=None):
    """A new model. dmconfig is passed on unconverted: a class of an earlier edition expects the config of that edition."""
    return initialised(model_class or _ddpm(), dmconfig, device)


def _ten_of_each(dmconfig):
    return torch.arange(dmconfig.num_classes).repeat_interleave(10)  # (10 num_classes,)


@torch.no_grad()
def _sample_classes(model, dmconfig):
    return finite(model.sample(_ten_of_each(dmconfig).to(next(model.parameters()).device), dmconfig.omega))


def _class_figure(images, dmconfig, title):
    return display.grid_figure(images, 10, title, row_labels=dmconfig.classes or range(dmconfig.num_classes), row_title="class")
