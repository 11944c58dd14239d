"""The page inside a notebook: its controls, for a model in the memory of the kernel, which computes."""

import asyncio
import json
import time
from pathlib import Path

import torch

from lab.diffusion.sampling import trajectory
from lab.editing import tasks
from lab.playground.settings import settings

PAGE = Path(__file__).parent / "page"
MODULES = ("pictures.js", "pad.js", "app.js")  # in the order in which they import each other


def widget(model):
    """An anywidget with the controls of the page for `model`. Raises ImportError without anywidget, and what `settings` raises."""
    import anywidget
    import traitlets

    class Playground(anywidget.AnyWidget):
        _esm = (PAGE / "widget.js").read_text("utf-8")
        parts = traitlets.Unicode(json.dumps(_parts(model))).tag(sync=True)

    made = Playground()
    answer = Answers(model, made.send)
    made.on_msg(lambda _, task, buffers: answer(task))
    return made


class Answers:
    """Computes the tasks of the page, one at a time: a new task, or one without a name, cancels the one before.

    send(message, buffers): to the page. Between two steps the kernel's other messages have their turn.
    """

    def __init__(self, model, send):
        self.model, self.send, self.running = model, send, None

    def __call__(self, task):
        if self.running:
            self.running.cancel()
        self.running = asyncio.ensure_future(self.compute(task)) if "name" in task else None

    async def compute(self, task):
        started = time.perf_counter()
        try:
            for steps in zip(*walks(self.model, task)):
                x, x_0 = (torch.cat([getattr(step, name) for step in steps]).float().cpu().numpy() for name in ("x", "x_0"))
                self.send({"kind": "step", "id": task["id"], "t": steps[0].t}, [x.tobytes(), x_0.tobytes()])
                await asyncio.sleep(0)
            self.send({"kind": "done", "id": task["id"], "seconds": time.perf_counter() - started}, [])
        except Exception as error:  # of a student's network, for one; the page shows it
            self.send({"kind": "error", "id": task["id"], "message": f"{type(error).__name__}: {error}"}, [])


def walks(model, task):
    """The walks of a task of the page. Images are drawn together where weight and noise allow it: equal seeds give equal noise.

    task: {name: "sample" | "edit" | "inpaint", labels, omega, seeds, steps} with a value an image, a label of None for no class; and
    method, or image and start, or image and mask.
    """
    images = range(len(task["labels"]))
    omegas = [-1.0 if label is None else float(omega) for label, omega in zip(task["labels"], task["omega"])]
    together = len(set(omegas)) == 1 and len(set(task["seeds"])) == len(images)
    return [_walk(model, task, part, omegas[part[0]]) for part in ([list(images)] if together else [[image] for image in images])]


def _walk(model, task, images, omega):
    labels = [task["labels"][image] or 0 for image in images]
    how = {"steps": task["steps"], "generator": torch.Generator().manual_seed(task["seeds"][images[0]])}
    if task["name"] == "sample":
        return trajectory(model, torch.tensor(labels), omega, method=task["method"], **how)
    config = model.dmconfig
    picture = torch.tensor(task["image"], dtype=torch.float32).view(1, config.num_channels, *config.input_dim)
    if task["name"] == "edit":
        return tasks.edit(model, picture, task["start"], labels, omega=omega, **how)
    return tasks.inpaint(model, picture, torch.tensor(task["mask"]).view(config.input_dim), labels, omega=omega, **how)


def _parts(model):
    """What widget.js puts together: the page's elements, its style, its scripts and the model's settings."""
    read = lambda name: (PAGE / name).read_text("utf-8")
    page = read("index.html")
    cut = lambda begin, end: page[page.index(begin) : page.index(end, page.index(begin)) + len(end)]
    return {
        "settings": settings(model),
        "style": read("style.css"),
        "main": cut("<main", "</main>"),
        "modules": {name: read(name) for name in MODULES},
    }
