"""The command line of the engine: `python -m lab --help` lists what it does."""

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path

import torch
from torchvision import transforms

from config import DMConfig
from lab import display, samplers, writing
from lab.training import checkpoint, data, pictures, pretrained
from lab.training.trainer import TrainingError
from utils import best_device, load_model, solver

ROW = 20  # digits of a string on one line
OMEGAS, SAMPLES = [0, 0.5, 1, 2, 5], 5000  # that `evaluate` judges
MODELS = {"single": pretrained.DIGITS, "pair": pretrained.PAIRS}  # the weights for `write`: one digit an image, or two


def train(arguments):
    """Train in full, as the notebook's solver does."""
    settings = {name: value for name, value in vars(arguments).items() if name in SETTINGS and value is not None}
    found = _set(arguments.data or "mnist", arguments.size, arguments.num_channels)
    if arguments.num_classes not in (None, found["num_classes"]):
        raise ValueError(f"--num-classes {arguments.num_classes}; {found['data']} has {found['num_classes']}")
    dmconfig = DMConfig(**{**settings, **found})
    if dmconfig.process == samplers.FEW:
        raise ValueError(f"--process {samplers.FEW}; a network of few calls is distilled: python -m lab distill NAME")
    loaders = _loaders(dmconfig, arguments.images)
    solver(dmconfig, arguments.name, *loaders, resume=arguments.resume, model_class=_class(dmconfig.process))


def distill(arguments):
    """Train a network that draws in one, two or four calls, from a DDPM: by default from the weights that ship."""
    from lab import distillation  # here, as a student's copy lacks it
    from lab.training import experiment

    folder = experiment.folder_of(arguments.name)
    chosen = {name: getattr(arguments, name) for name in ("epochs", "omega", "learning_rate", "seed")}
    teacher, reporter = _model(arguments.teacher), display.Reporter()
    dmconfig = distillation.settings(teacher, arguments.method, **{name: value for name, value in chosen.items() if value is not None})
    loaders = _loaders(dmconfig, arguments.images)
    distillation.distill(teacher, arguments.method, dmconfig, folder, loaders, best_device(), distillation.picture, reporter)


def sample(arguments):
    """Draw the digits asked for and write them as one picture, and as a film with --gif."""
    model = _model(arguments.checkpoint, arguments.method)
    labels, omega = _labels(arguments, model.dmconfig), _omega(arguments, model.dmconfig)
    out = display.writable(arguments.out)
    generator = _generator(arguments.seed)
    columns = arguments.grid or min(ROW, len(labels))
    if arguments.redraw and omega <= -1:
        raise ValueError("--redraw reads the class that is asked for, and none is; name digits or a --label")
    if arguments.gif and arguments.redraw:
        raise ValueError("--gif and --redraw; give one of them, as a film shows how a digit is drawn once")
    how, reader = {"method": arguments.method, "steps": arguments.steps, "generator": generator}, _reader(arguments, model)
    frames = []  # for each batch, the images after each step, or the last ones alone
    for part in labels.split(samplers.BATCH):
        if arguments.gif:
            frames.append([samplers.pixels(step.x).cpu() for step in samplers.trajectory(model, part, omega, **how)])
        else:
            frames.append([samplers.sample(model, part, omega, reader=reader, **how).cpu()])
    drawn = [display.grid(torch.cat(batches), columns) for batches in zip(*frames)]
    display.save_picture(drawn[-1], out)
    if arguments.gif:
        display.save_film(drawn, out.with_suffix(".gif"))


def write(arguments):
    """Write a string of digits in one go, as one picture."""
    columns = min(ROW, len(writing.digits(arguments.digits)))
    out = display.writable(arguments.out)
    if arguments.checkpoint and arguments.model:
        raise ValueError(f"--checkpoint {arguments.checkpoint} and --model {arguments.model} both name the network; give one of them")
    model = _model(arguments.checkpoint or (MODELS[arguments.model] if arguments.model else None), arguments.method)
    omega = model.dmconfig.omega if arguments.omega is None else arguments.omega
    how = {"method": arguments.method, "steps": arguments.steps, "generator": _generator(arguments.seed)}
    images = writing.write(model, arguments.digits, omega, reader=_reader(arguments, model), **how)
    display.save_picture(display.grid(images.cpu(), columns), out)


def evaluate(arguments):
    """Judge a model's digits for each guidance weight, method and number of steps; write a table, and a figure against the weight."""
    from lab import quality  # here, as scikit-learn takes a second

    model, reporter = _model(arguments.checkpoint, *arguments.method), display.Reporter()
    out = display.writable(arguments.out)
    distilled = model.dmconfig.process == samplers.FEW
    omegas = arguments.omega or ([model.dmconfig.omega] if distilled else OMEGAS)
    grid = omegas, arguments.method or [samplers.FEW if distilled else samplers.METHOD], arguments.steps, arguments.seeds
    samples = min(SAMPLES, quality.most(model.dmconfig)) if arguments.samples is None else arguments.samples
    rows = quality.sweep(model, *grid, samples, out.with_suffix(".csv"), reporter, _reader(arguments, model))
    quality.figure(rows).savefig(out, dpi=150)


def benchmark(arguments):
    """Measure our code and the plain baseline in turn; write a table and a figure."""
    from DDPM import ConditionalDDPM
    from lab import quality
    from lab.speed import bench

    if arguments.rounds < 1:
        raise ValueError(f"--rounds {arguments.rounds}; allowed is a whole number of at least 1")
    out, device, reporter = display.writable(arguments.out), arguments.device or best_device(), display.Reporter()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what torch raises for another name, and for one that it was not built for
        raise ValueError(f"--device {device}: {error}") from error
    root = quality.real_mnist(train=True).root
    rows, head = [], f"{bench.machine(device)}; median and range of {arguments.rounds} rounds"
    for row in bench.run(ConditionalDDPM(DMConfig()), data.mnist(data.NORMALISED), arguments.rounds, device):
        rows.append(row)
        checkpoint.write_text(out.with_suffix(".md"), f"{head}\n\n{bench.table(rows)}\n")
        reporter.line(bench.table([row]))
    bench.figure(rows).savefig(out, dpi=150)
    if sys.platform == "linux":
        reporter.line(f"peak memory of training on a CPU: {bench.peak_memory(root) / 1e9:.2f} GB")


def judge(arguments):
    """Train the classifier that judges pictures of a set, MNIST's or your own, and print its accuracy on the test set.

    With --second, another one: it says which pictures --redraw draws again, and what chooses pictures cannot measure them.
    """
    from lab import quality
    from lab.quality import judge

    config, reporter = DMConfig(**_set(arguments.data, arguments.size, arguments.num_channels)), display.Reporter()
    real = lambda part: quality.real_mnist(part) if config.data == "mnist" else _dataset(config, transforms.ToTensor(), part)
    seed = int(arguments.second) if arguments.seed is None else arguments.seed
    other = judge.path_of(config, not arguments.second)
    if other.exists() and pretrained.load(other)["record"]["seed"] == seed:
        raise ValueError(
            f"--seed {seed} is that of {other}; the judge that chooses what is drawn again has to be another than the one that measures"
        )
    batches, test = (data.loader(real(part), size, shuffle=part) for part, size in ((True, 128), (False, judge.BATCH)))
    model = judge.train(batches, arguments.epochs, seed, best_device(), reporter, config.num_channels, config.num_classes)
    right = sum((judge.read(model, images)[0] == labels).sum().item() for images, labels in test)
    accuracy = right / len(test.dataset)
    reporter.line(f"test accuracy {accuracy:.2%} of {len(test.dataset):,} pictures")
    if config.data == "mnist" and accuracy < judge.ACCURACY:
        raise ValueError(f"a judge reads at least {judge.ACCURACY:.1%} right: this one is not kept; train for more epochs")
    record = {"epochs": arguments.epochs, "seed": seed, "test_accuracy": accuracy}
    named = {"classes": config.classes} if config.classes else {}
    pretrained.save(judge.path_of(config, arguments.second), model.state_dict(), record=record, **named)


def average(arguments):
    """Print what averaging gained: the test loss of a run's averaged weights, and that of its last weights."""
    from DDPM import ConditionalDDPM
    from lab.speed import bench

    state = checkpoint.load(arguments.checkpoint, keys=(*checkpoint.KEYS, "raw_model_state_dict"))
    dmconfig = DMConfig.from_dict(state["dmconfig"])
    if dmconfig.process == samplers.FEW:
        raise ValueError(f"{arguments.checkpoint} is of a distilled network; allowed is one that `train` has trained")
    both = {"averaged": state["model_state_dict"], "as they are": state["raw_model_state_dict"]}
    model = (_class(dmconfig.process) or ConditionalDDPM)(dmconfig)
    test_loader = data.loader(_dataset(dmconfig, data.NORMALISED, False), dmconfig.batch_size, shuffle=False)
    for name, loss in bench.losses_of(model, both, test_loader, best_device()).items():
        print(f"after epoch {state['epoch']}, weights {name}: test loss {loss:.4f}")


def ship(arguments):
    """Make a checkpoint's averaged weights the ones that ship with the project."""
    state = checkpoint.load(arguments.checkpoint, keys=(*checkpoint.KEYS, "history", "data"))
    drawn = writing.width(load_model(arguments.checkpoint))
    if drawn > len(MODELS):
        raise ValueError(f"{arguments.checkpoint} draws {drawn} digits an image; allowed are those of {', '.join(MODELS)}")
    record = {key: state[key] for key in ("epoch", "data", "history")}
    path = pretrained.FEW if state["dmconfig"].get("process") == samplers.FEW else list(MODELS.values())[drawn - 1]
    pretrained.save(path, state["model_state_dict"], dmconfig=state["dmconfig"], record=record)


def playground(arguments):
    """Make a page that draws in the browser, as a folder with --out; without it, serve the page on this machine."""
    from lab.playground import export  # here, as a student's copy lacks it

    reporter, model = display.Reporter(), load_model(arguments.checkpoint, "cpu")
    few = None if arguments.checkpoint else load_model(pretrained.FEW, "cpu")  # distilled from the weights that ship
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(arguments.out or Path(temporary) / "page")
        size = export.export(out, model, arguments.runtime, few)
        if arguments.out:
            return reporter.line(f"{out}: {size / 1e6:.1f} MB, for any host of static files")
        with export.server(out, arguments.port) as server:
            reporter.line(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)")
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()


def _set(name, size, num_channels):
    """What DMConfig has to know of a set; size: of a folder's pictures, which are square."""
    return pictures.settings(name, None if size is None else (size, size), num_channels)


def _dataset(dmconfig, transform, train):
    return pictures.dataset(transform, dmconfig.data, train=train, input_dim=dmconfig.input_dim, num_channels=dmconfig.num_channels)


def _loaders(dmconfig, images):
    return [
        data.loader(_dataset(dmconfig, data.NORMALISED, part), dmconfig.batch_size, shuffle=part, limit=images) for part in (True, False)
    ]


def _class(process):
    """The class that is trained, of a DMConfig.process."""
    if process != "flow":
        return None  # load_model and solver know it
    from explorations.FM import ConditionalFM

    return ConditionalFM


def _model(path, *methods):
    """load_model, of whichever process the checkpoint is; without one the weights that ship and draw by these methods."""
    path = path or (pretrained.FEW if samplers.FEW in methods else None)
    if path is None or Path(path).suffix == ".safetensors":
        return load_model(path)
    return load_model(path, model_class=_class(DMConfig.from_dict(checkpoint.load(path)["dmconfig"]).process))


def _reader(arguments, model):
    """What says which pictures --redraw draws again, or None. It is not the judge that measures."""
    if not arguments.redraw:
        return None
    from lab.quality import judge

    return judge.load(best_device(), model.dmconfig, second=True)


def _labels(arguments, dmconfig):
    """The labels to draw, (N,): a string of digits, or --label; --grid or --n-samples is the number of each.

    If none is given: with --grid all classes, with --n-samples class 0 as a placeholder, which unconditional sampling ignores.
    """
    digits, label, grid, count = arguments.digits, arguments.label, arguments.grid, arguments.n_samples
    for name, value in (("--grid", grid), ("--n-samples", count)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}; allowed is a whole number of at least 1")
    if digits and label is not None:
        raise ValueError(f"the digits {digits} and --label {label} both say what to draw; give one of them")
    if count and (digits or grid):
        raise ValueError(f"--n-samples {count} goes with --label or alone; beside {'digits' if digits else '--grid'} the count is unclear")
    if not (digits or label is not None or grid or count):
        raise ValueError("no digits to draw; name them, as in: python -m lab sample 2026, or ask for --grid 10 or --n-samples 16")
    if digits and (dmconfig.num_classes > 10 or dmconfig.classes):
        what = f"{'' if dmconfig.classes else 'the numbers '}{dmconfig.named()}"
        raise ValueError(f"the model draws {what}; --label names one, and a string of digits is for a model of digits")
    if digits:
        labels = [dmconfig.label(digit) for digit in writing.digits(digits)]
    elif label is not None:
        labels = [dmconfig.label(label)]
    else:
        labels = list(range(dmconfig.num_classes)) if grid else [0]
    return torch.tensor(labels).repeat_interleave(grid or count or 1)


def _generator(seed):
    if not 0 <= seed < 2**63:
        raise ValueError(f"--seed {seed}; allowed is a whole number from 0 to 2^63 - 1")
    return torch.Generator().manual_seed(seed)


def _omega(arguments, dmconfig):
    """The guidance weight; -1, unconditional, if no class is given: `sample --n-samples 16`."""
    if arguments.n_samples is None or arguments.label is not None:
        return dmconfig.omega if arguments.omega is None else arguments.omega
    if arguments.omega is not None:
        raise ValueError(f"--omega {arguments.omega:g} guides towards a class, and none is named; add --label")
    return -1.0


SETTINGS = {field.name: field for field in dataclasses.fields(DMConfig) if field.type in (int, float, str) and field.name != "data"}
METHODS = (*samplers.FLOW_METHODS, samplers.FEW)
REDRAW = "draw a second time what a classifier, which is not the judge, cannot read"
SET = "mnist, fashion, cifar10, or a folder of pictures with one sub-folder a class (default: mnist)"


def parser():
    main = argparse.ArgumentParser(prog="python -m lab", description="The engine of the course.")
    commands = main.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("train", help="train a network, everything kept in ./save/NAME", description=train.__doc__)
    command.add_argument("name", help="name of the experiment")
    command.add_argument("--resume", action="store_true", help="go on with an experiment that was interrupted")
    command.add_argument("--images", type=int, help="use only the first IMAGES images (default: all)")
    command.add_argument("--data", help=SET)
    command.add_argument("--size", type=int, help="of a folder's pictures, in pixels (default: 32)")
    for name, field in SETTINGS.items():
        command.add_argument(f"--{name.replace('_', '-')}", dest=name, type=field.type, help=f"default: {field.default}")
    command.set_defaults(run=train)

    command = commands.add_parser("distill", help="train a network that draws in one to four calls", description=distill.__doc__)
    command.add_argument("name", help="name of the experiment, kept in ./save/NAME; the same command goes on with it")
    command.add_argument("--method", default="drifting", help="trajectory, consistency, drifting or moments (default: drifting)")
    command.add_argument("--teacher", help="a checkpoint, also of drifting or moments (default: the weights that ship)")
    command.add_argument("--images", type=int, help="use only the first IMAGES images (default: all)")
    command.add_argument("--omega", type=float, help="guidance that the network learns by trajectory or consistency (default: 0.5)")
    command.add_argument("--epochs", type=int, help="(default: 6)")
    command.add_argument("--learning-rate", type=float, help="climbs to five times as much, then falls to 0 (default: 0.0001)")
    command.add_argument("--seed", type=int, help="(default: the teacher's)")
    command.set_defaults(run=distill)

    command = commands.add_parser("sample", help="draw digits", description=sample.__doc__)
    command.add_argument("digits", nargs="?", help="drawn in this order, as 0123456789")
    command.add_argument("--label", help="one class, by its number or name")
    command.add_argument("--n-samples", type=int, metavar="N", help="N of --label, or without --label N unconditional ones")
    command.add_argument("--grid", type=int, metavar="N", help="N of each class, a row a class")
    command.add_argument("--gif", action="store_true", help="write a film of the denoising beside the picture")
    _add_drawing(command)
    command.set_defaults(run=sample)

    command = commands.add_parser("write", help="write a string of digits", description=write.__doc__)
    command.add_argument("digits", help="as 00297375")
    command.add_argument("--model", choices=MODELS, help="one digit an image, or two (default: single)")
    _add_drawing(command)
    command.set_defaults(run=write)

    command = commands.add_parser("evaluate", help="say how good a model's digits are", description=evaluate.__doc__)
    command.add_argument("--checkpoint", help="a best_checkpoint.pth (default: the weights that ship)")
    command.add_argument("--samples", type=int, help=f"digits for each row (default: {SAMPLES}, or as many as the set has)")
    command.add_argument("--omega", type=float, nargs="+", help=f"default: {' '.join(map(str, OMEGAS))}; of a distilled network, its own")
    command.add_argument("--method", choices=(*METHODS, samplers.ANCESTRAL), nargs="+", default=[], help=f"default: {samplers.METHOD}")
    command.add_argument("--steps", type=int, nargs="+", help=f"default: the method's, as {samplers.STEPS} of {samplers.METHOD}")
    command.add_argument("--seeds", type=int, default=1, help="rows for each setting (default: 1)")
    command.add_argument("--redraw", action="store_true", help=REDRAW)
    command.add_argument("--out", default="quality.png", help="the figure; the table goes beside it, as .csv (default: quality.png)")
    command.set_defaults(run=evaluate)

    command = commands.add_parser("bench", help="measure how fast this machine trains and samples", description=benchmark.__doc__)
    command.add_argument("--rounds", type=int, default=5, help="measurements of each way (default: 5)")
    command.add_argument("--device", help="default: the fastest there is")
    command.add_argument("--out", default="bench.png", help="the figure; the table goes beside it, as .md (default: bench.png)")
    command.set_defaults(run=benchmark)

    command = commands.add_parser("judge", help="train the classifier that judges digits", description=judge.__doc__)
    command.add_argument("--data", default="mnist", help=SET)
    command.add_argument("--size", type=int, help="of a folder's pictures, in pixels (default: 32)")
    command.add_argument("--num-channels", type=int, help="of a folder's pictures (default: 3)")
    command.add_argument("--epochs", type=int, default=6)
    command.add_argument("--seed", type=int, help="(default: 0, and 1 with --second)")
    command.add_argument("--second", action="store_true", help="train the one that --redraw asks")
    command.set_defaults(run=judge)

    command = commands.add_parser("average", help="say what averaging the weights gained", description=average.__doc__)
    command.add_argument("checkpoint", help="a last_checkpoint.pth")
    command.set_defaults(run=average)

    command = commands.add_parser("ship", help="make a checkpoint's weights the ones that ship", description=ship.__doc__)
    command.add_argument("checkpoint", help="a best_checkpoint.pth")
    command.set_defaults(run=ship)

    command = commands.add_parser("playground", help="a page that draws in the browser", description=playground.__doc__)
    command.add_argument("--out", metavar="DIR", help="write the page there, for GitHub Pages or any other static host")
    command.add_argument("--port", type=int, default=8000, help="of http://127.0.0.1, where it is served without --out (default: 8000)")
    command.add_argument("--checkpoint", help="a best_checkpoint.pth (default: the weights that ship)")
    command.add_argument("--runtime", metavar="DIR", help="an unpacked onnxruntime-web (default: downloaded once, into ./data)")
    command.set_defaults(run=playground)
    return main


def _add_drawing(command):
    """The options of the commands that draw a picture."""
    command.add_argument("--omega", type=float, help="guidance weight (default: the model's)")
    few = f"{samplers.FEW} draws by the distilled network that ships"
    command.add_argument(
        "--method", choices=METHODS, help=f"default: {samplers.METHOD}; {samplers.BEST}: digits that are less alike; {few}"
    )
    command.add_argument("--steps", type=int, help=f"default: the method's, as {samplers.STEPS} of {samplers.METHOD}")
    command.add_argument("--redraw", action="store_true", help=REDRAW)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--checkpoint", help="a best_checkpoint.pth (default: the weights that ship)")
    command.add_argument("--out", default="digits.png", help="the picture (default: digits.png)")


def main(arguments=None):
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError, ImportError, checkpoint.CheckpointError, data.DataError, TrainingError) as error:
        sys.exit(f"python -m lab: {error}")


if __name__ == "__main__":
    main()
