"""Sampling: images of the classes asked for in tens of steps, from any model with a network, a scheduler and a config."""

import math
from numbers import Real

import torch

from config import MEAN, STD, is_finite
from lab.check import check_generator, finite, is_whole, number, whole
from lab.diffusion import few
from lab.diffusion import steps as of
from lab.diffusion.guidance import limited
from lab.diffusion.guidance_methods import cfg_pp, interval, plain, projected
from lab.diffusion.process import process
from lab.diffusion.redraw import check as check_reader
from lab.diffusion.redraw import redrawn
from lab.diffusion.walk import final, timesteps, walk

# What makes the step of a walk, from (process, its times, predict, eta); HEUN is for flows alone.
METHODS = {
    "ddpm": lambda way, times, predict, eta: of.ddim(1.0),
    "ddim": lambda way, times, predict, eta: of.ddim(eta),
    "dpmpp": lambda way, times, predict, eta: of.multistep("dpmpp", way, times),
    "unipc": lambda way, times, predict, eta: of.multistep("unipc", way, times),
    "sde": lambda way, times, predict, eta: of.multistep("sde", way, times),
    "best": lambda way, times, predict, eta: of.multistep("sde", way, times),
}
HEUN = "heun"
FLOW_METHODS = METHODS | {HEUN: lambda way, times, predict, eta: of.heun(predict)}
FEW_METHODS = {few.METHOD: lambda way, times, predict, eta: of.renoised}  # for networks of lab.distillation alone
ANCESTRAL = "ancestral"  # not a METHOD: the model's own `sample` in all T steps, for comparison
METHOD, STEPS = "dpmpp", 9  # with guidance 19 calls of the network a digit: one for the start, two a step
BEST = "best"  # what explorations/guidance.ipynb recommends
USUAL = {"steps": STEPS, "guidance": plain}
OF_METHOD = {few.METHOD: {"steps": 1}, BEST: {"steps": 11, "guidance": interval(1.0, math.inf, projected())}}  # in place of USUAL
REDRAWN = {BEST: {"steps": 7, "guidance": interval(3.0, math.inf, projected())}}  # of each draw, where there may be a second one
BATCH = 100  # images at once: larger batches are slower on a CPU, whose allocator hands each tensor back to the system


def usual(method, reader=None):
    """What `trajectory` takes where it is not told, and `sample` with a reader: steps and guidance of a method, a dict."""
    return USUAL | OF_METHOD.get(method, {}) | (REDRAWN.get(method, {}) if reader is not None else {})


def sample(model, labels, omega, *, reader=None, **how):
    """Images of the classes in `labels`, (B, C, H, W) in [0, 1]; the arguments are those of `trajectory`.

    reader: a classifier; what it doubts is drawn again, as in lab.diffusion.redraw. "best" then takes 7 steps, guided where noise is
    three times as strong as the image: 10 calls a draw. Raises ValueError for a reader of other classes, without a class that is asked
    for (omega = -1) or with x_T, from which a second draw would be like the first.
    """
    draw = lambda labels: pixels(final(trajectory(model, labels, omega, **how)))
    if reader is None:
        return draw(labels)
    how |= {key: value for key, value in REDRAWN.get(how.get("method"), {}).items() if how.get(key) is None}
    trajectory(model, labels, omega, **how)  # checks its arguments; nothing is drawn yet
    check_reader(model, omega, reader)
    if how.get("x_T") is not None:
        raise ValueError(f"x_T of shape {tuple(how['x_T'].shape)} with a reader; allowed is None, as a second draw has another start")
    return redrawn(draw, labels, reader)


def trajectory(
    model, labels, omega, *, method=None, steps=None, eta=0.0, guidance=None, guidance_interval=None, clip=None, generator=None, x_T=None
):
    """Sample images from noise: yields a Step for x_T and one after each of `steps` steps.

    labels: whole numbers (B,). omega: the guidance weight. method, over `steps` of the T time steps, beginning with T:
      "ddpm"   the posterior of eq. (7), Ho et al. 2020, arXiv:2006.11239, from one of these time steps to the next
      "ddim"   eq. (12), Song et al. 2021, arXiv:2010.02502, with `eta` times the posterior's noise
      "dpmpp"  DPM-Solver++ (2M), Lu et al. 2022, arXiv:2211.01095, by diffusers
      "sde"    the same with noise, SDE-DPM-Solver++ (2M) there: closer to real digits where omega is below 1
      "unipc"  UniPC, Zhao et al. 2023, arXiv:2302.04867, by diffusers
      "heun"   for flows alone, not clipped, by plain guidance: two calls of the network a step (four with guidance)
      "few"    for networks of lab.distillation alone: 1, 2 or 4 calls, omega being the one that the network has learned
      "best"   "sde" in 11 steps, guided where noise outweighs the image, by projected(): 19 calls, read as surely, less alike
    By default "dpmpp" in 9 steps, and one call of "few" for such a network.
    guidance: a method of lab.diffusion.guidance_methods in place of the usual one. guidance_interval: (low, high), guide only
    where low < sqrt(1 - alpha_bar) / sqrt(alpha_bar) <= high, and use the conditional output alone elsewhere. clip: True clips each
    predicted x_0 to the range of pixels; (low, high) to another range, for a model whose images are scaled in another way. None is
    False but under the cosine schedule, where computing x_0 near T divides by almost 0. generator: a
    torch.Generator for all noise. x_T: the start, (B, C, H, W); by default drawn with one more call of the network (`_started`),
    which assumes images scaled as in the course. For a flow "ddim" is Euler's method, and the start is noise. Raises ValueError for
    anything else, before any work.
    """
    way = process(model)
    distilled = isinstance(model, few.FewSteps)
    method = (few.METHOD if distilled else METHOD) if method is None else method
    steps = usual(method)["steps"] if steps is None else steps
    clip = way.output != "flow" and getattr(model.dmconfig, "schedule", "linear") == "cosine" if clip is None else clip
    methods = FEW_METHODS if distilled else FLOW_METHODS if way.output == "flow" else METHODS
    _check(model, way, methods, labels, omega, method, steps, eta, guidance, guidance_interval, clip, x_T)
    check_generator(generator)
    times, rows = timesteps(way.T, int(steps)), way.embed(labels)
    guidance = guidance or usual(method)["guidance"]
    predict = (interval(*guidance_interval, guidance) if guidance_interval else guidance)(way, rows, 0.0 if distilled else float(omega))
    limit = (way.limit if clip is True else lambda x_0: x_0.clamp(*clip)) if clip else None
    noise = lambda: way.noise(len(rows), generator)
    drawn = noise if distilled else lambda: _started(way, rows, omega, noise, clip)
    start = drawn if x_T is None else lambda: x_T.to(way.device, torch.float32)
    predict = limited(way, predict, limit) if limit else predict
    step = methods[method](way, times, predict, eta)
    return walk(way, predict, step, times, start, noise)


def pixels(x):
    """Images (B, C, H, W) on the course's scale as pixels in [0, 1]. Raises ValueError where they are not finite."""
    return (finite(x) * STD + MEAN).clamp(0, 1)


def _started(way, rows, omega, noise, clip):
    """x_T drawn from q(x_T | predicted x_0): in training x_T keeps alpha_T of the image, 13 % under the default schedule.

    Pure noise lacks that, and samplers that add little noise on the way draw pale digits from it (Lin et al. 2023,
    arXiv:2305.08891). So the network predicts x_0 from noise once, and x_T is drawn by eq. (4), Ho et al. 2020.
    """
    if way.alpha[way.T] == 0:  # as in a flow
        return noise()
    predict = plain(way, rows, min(float(omega), 0.0))  # unguided: guidance exaggerates x_0
    x_0 = predict(noise(), way.T, 0).x_0.clamp(*(clip if isinstance(clip, (tuple, list)) else way.range))
    return way.noised(x_0, way.T, noise())


def _check(model, way, methods, labels, omega, method, steps, eta, guidance, guidance_interval, clip, x_T):
    if method not in methods:
        raise ValueError(f"method = {method!r}; allowed is one of {', '.join(methods)}")
    whole("steps", steps, 1, way.T)
    number("omega", omega, 2.0)
    if method == few.METHOD:
        _check_few(model, omega, steps, guidance, guidance_interval)
    if method == BEST and omega < 0:
        raise ValueError(f"omega = {omega!r} with method {BEST!r}; allowed is 0 or more: it draws classes, and guides on a part of the way")
    if not is_finite(eta) or not 0 <= eta <= 1 or (eta and method != "ddim"):
        raise ValueError(f"eta = {eta!r} with method {method!r}; allowed is 0 to 1, and only with 'ddim'")
    if guidance is not None and not callable(guidance):
        raise ValueError(f"guidance = {guidance!r}; allowed is a method of lab.diffusion.guidance_methods, or None")
    if guidance is cfg_pp and (method not in ("ddim", "ddpm") or clip):
        raise ValueError(f"guidance = cfg_pp with method {method!r} and clip = {clip!r}; allowed is 'ddim' or 'ddpm', not clipped")
    if method == HEUN and (clip or guidance not in (None, plain)):  # it looks at t = 0, where a changed image leaves no noise to compute
        raise ValueError(f"method = {HEUN!r} with clip = {clip!r} and guidance = {guidance!r}; allowed is not clipped, by plain guidance")
    if guidance_interval is not None:
        pair = isinstance(guidance_interval, (tuple, list)) and len(guidance_interval) == 2
        if not pair or not all(isinstance(v, Real) for v in guidance_interval) or not 0 <= guidance_interval[0] < guidance_interval[1]:
            raise ValueError(f"guidance_interval = {guidance_interval!r}; allowed is (low, high) with 0 <= low < high, or None")
    if not isinstance(clip, bool):
        pair = isinstance(clip, (tuple, list)) and len(clip) == 2
        if not pair or not all(map(is_finite, clip)) or not clip[0] < clip[1]:
            raise ValueError(f"clip = {clip!r}; allowed is True, False, None, or (low, high) with low < high")
    if not torch.is_tensor(labels) or not is_whole(labels) or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels are {labels!r}; allowed is a tensor (B,) of whole numbers")
    if labels.min() < 0 or labels.max() >= len(way.null_condition):
        raise ValueError(f"labels {int(labels.min())} to {int(labels.max())}; allowed is 0 to {len(way.null_condition) - 1}")
    wanted = (len(labels), *way.shape)
    if x_T is not None and not (torch.is_tensor(x_T) and x_T.shape == wanted and x_T.is_floating_point() and x_T.isfinite().all()):
        raise ValueError(f"x_T is {getattr(x_T, 'shape', x_T)!r}; allowed is a tensor {wanted} of finite floats, or None")


def _check_few(model, omega, steps, guidance, guidance_interval):
    if steps not in few.STEPS:
        raise ValueError(f"steps = {steps} with method {few.METHOD!r}; allowed is one of {', '.join(map(str, few.STEPS))}")
    if omega != model.dmconfig.omega or guidance or guidance_interval:
        raise ValueError(
            f"omega = {omega!r} with method {few.METHOD!r}; the network has learned {model.dmconfig.omega}, and takes no other guidance"
        )
