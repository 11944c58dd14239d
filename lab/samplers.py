"""Fast sampling: images in tens of steps instead of hundreds, from any model that has a network, a scheduler and a config."""

import contextlib
import math
from collections import deque, namedtuple
from numbers import Real

import torch
import torch.nn.functional as F

from config import MEAN, STD, DMConfig, is_finite
from lab.halves import shared, twice
from lab.precision import autocast

METHODS = ("ddpm", "ddim", "dpmpp", "unipc", "sde")
ANCESTRAL = "ancestral"  # no method here: the model's own `sample`, in all its T steps, where the two are compared
METHOD, STEPS = "dpmpp", 9  # with guidance 19 calls of the network a digit: one for the start, two a step
BATCH = 100  # images drawn at once, where many are: of more, a CPU's allocator hands each tensor back to the system
BLACK, WHITE = -MEAN / STD, (1 - MEAN) / STD  # pixels, as the process sees them

Step = namedtuple("Step", "t x x_0")
Step.__doc__ = "Where a trajectory stands: x = x_t at time t (0 at the end) and the image x_0 predicted on the way, (B, C, H, W) each."


def sample(model, labels, omega, **how):
    """Images of the classes in `labels`, (B, C, H, W) in [0, 1]; the arguments are those of `trajectory`."""
    return pixels(final(trajectory(model, labels, omega, **how)))


def final(steps):
    """The images that an iterable of Steps ends with, (B, C, H, W); the ones before are not kept."""
    return deque(steps, maxlen=1).pop().x


def trajectory(
    model, labels, omega, *, method=METHOD, steps=STEPS, eta=0.0, guidance_interval=None, clip=None, generator=None, x_T=None
):
    """The way from noise to images: yields a Step for x_T and one after each of `steps` steps.

    labels: whole numbers (B,). omega: the guidance weight. method, over `steps` of the T time steps, the first of them T:
      "ddpm"   the posterior of eq. (7), Ho et al. 2020, arXiv:2006.11239, from one of these time steps to the next
      "ddim"   eq. (12), Song et al. 2021, arXiv:2010.02502, with `eta` times the posterior's noise
      "dpmpp"  DPM-Solver++ (2M), Lu et al. 2022, arXiv:2211.01095, by diffusers
      "sde"    the same with noise, SDE-DPM-Solver++ (2M) there: closer to real digits where omega is below 1
      "unipc"  UniPC, Zhao et al. 2023, arXiv:2302.04867, by diffusers
    guidance_interval: (low, high), guide only where low < sqrt(1 - alpha_bar) / sqrt(alpha_bar) <= high, and ask for the
    conditional half alone elsewhere (Kynkäänniemi et al. 2024, arXiv:2404.07724). clip: True keeps each predicted x_0 in the
    range of pixels, (low, high) in that of a model whose images were scaled otherwise; None is False under the linear schedule
    and True under the cosine one, which leaves so little of the image at T that x_0 is a guess divided by next to nothing.
    generator: a torch.Generator for all noise. x_T: the start, (B, C, H, W); without one it is drawn, by one more call of the
    network (`_started`), which takes images to be scaled as the course does. Raises ValueError for anything else, before any work.
    """
    clip = DMConfig.of(model.dmconfig).schedule == "cosine" if clip is None else clip
    _check(model, labels, omega, method, steps, eta, guidance_interval, clip, x_T)
    return _trajectory(model, labels, omega, method, steps, 1.0 if method == "ddpm" else eta, guidance_interval, clip, generator, x_T)


def pixels(x):
    """What a person sees of images of the process: (B, C, H, W) in [0, 1]. Raises ValueError where these are not finite."""
    return (finite(x) * STD + MEAN).clamp(0, 1)


def finite(images):
    """`images` as they are. Raises ValueError where they hold NaN or infinity."""
    bad = int((~images.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{bad:,} of the images' {images.numel():,} values are not finite: the network's answers grew out of bounds. "
            "Try an omega nearer to 0, precision='float32', a flatter schedule, or other weights"
        )
    return images


@contextlib.contextmanager
def evaluating(network):
    """The network in eval mode inside, every part of it in its own mode again afterwards, whatever happens."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _trajectory(model, labels, omega, method, steps, eta, guidance_interval, clip, generator, x_T):
    config, device = DMConfig.of(model.dmconfig), next(model.network.parameters()).device
    c = F.one_hot(labels.long(), config.num_classes).to(device, torch.float32)  # (B, num_classes)
    times, alpha_bar = _times(model, steps, device)
    low, high = guidance_interval or (0, math.inf)
    levels = ((1 - alpha_bar) / alpha_bar).sqrt()  # sigma / alpha of each time
    predict = _predictor(model, c, clip)
    shape = (len(c), config.num_channels, *config.input_dim)

    def noise():
        return torch.randn(shape, generator=generator, device=generator.device if generator else device).to(device)

    def step(i, x):
        eps, x_0 = predict(x, times[i], alpha_bar[i], omega if low < levels[i] <= high else 0.0)
        if solver:
            more = {"variance_noise": noise()} if method == "sde" else {}
            return solver.step(eps, solver.timesteps[i], x, **more).prev_sample, x_0
        return _ddim_step(eps, x_0, alpha_bar[i], alpha_bar[i + 1], eta, noise), x_0

    solver = None if method in ("ddpm", "ddim") else _solver(method, times, levels, device)
    x = _started(model, predict, omega, alpha_bar[0], noise) if x_T is None else x_T.to(device)
    yield Step(config.T, x, x)
    for i in range(steps):
        with torch.no_grad(), evaluating(model.network), shared(model.network):  # not around the yield: the caller's state is its own
            x, x_0 = step(i, x)
        yield Step(times[i + 1] if i + 1 < steps else 0, x, x_0)


def _started(model, predict, omega, alpha_bar_T, noise):
    """x_T as training knows it, where sqrt(alpha_bar_T) of an image is left: 13 % in the default schedule.

    Pure noise lacks that, and what adds little noise on the way draws pale digits from it (Lin et al. 2023, arXiv:2305.08891). So
    the network is asked once what it sees in noise, and q(x_T | x_0), eq. (4), Ho et al. 2020, is drawn around that.
    """
    with torch.no_grad(), evaluating(model.network):
        _, x_0 = predict(noise(), model.dmconfig.T, alpha_bar_T, min(omega, 0.0))  # guidance would overdo it
    return alpha_bar_T.sqrt() * x_0.clamp(BLACK, WHITE) + (1 - alpha_bar_T).sqrt() * noise()


def timesteps(T, steps):
    """`steps` of the times 1 … T, evenly from T downwards: a list."""
    return [round(T * (steps - i) / steps) for i in range(steps)]


def _times(model, steps, device):
    """`steps` times from T downwards, evenly, and the alpha_bar of each and of the clean image: a list and (steps + 1,).

    alpha_bar is float64, as 1 - alpha_bar cancels digits near t = 1, and on the CPU: nothing waits for the device.
    """
    times = timesteps(model.dmconfig.T, steps)
    beta = model.scheduler(torch.arange(1, model.dmconfig.T + 1, device=device))["beta_t"]  # t stands at t - 1
    alpha_bar = (1 - beta.reshape(-1).cpu().double()).cumprod(0)
    return times, torch.cat([alpha_bar[torch.tensor(times) - 1], alpha_bar.new_ones(1)])


def _predictor(model, c, clip):
    """A function of (x_t, t, alpha_bar_t, omega) that gives the guided noise and the x_0 it implies, (B, C, H, W) each."""
    config = DMConfig.of(model.dmconfig)
    null = torch.full_like(c, config.condition_mask_value)

    def predict(x, t, alpha_bar, omega):
        asked = [(weight, rows) for weight, rows in ((1 + omega, c), (-omega, null)) if weight != 0]
        weights, rows = zip(*asked)
        n = len(asked)
        with autocast(x.device, config.precision):
            time = torch.full((n * len(x), 1, 1, 1), t / config.T, device=x.device)
            halves = model.network(twice(x) if n == 2 else x, time, torch.cat(rows)).float().chunk(n)
        eps = sum(weight * half for weight, half in zip(weights, halves))
        x_0 = (x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
        if clip:
            x_0 = x_0.clamp(*((BLACK, WHITE) if clip is True else clip))
            eps = (x - alpha_bar.sqrt() * x_0) / (1 - alpha_bar).sqrt()
        return eps, x_0

    return predict


def _ddim_step(eps, x_0, alpha_bar, alpha_bar_next, eta, noise):
    """From x_t to x_s, s < t. With eta = 1 it draws from the posterior q(x_s | x_t, x_0): sec. 4.1, Song et al. 2021."""
    sigma = eta * ((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next)).sqrt()
    x = alpha_bar_next.sqrt() * x_0 + (1 - alpha_bar_next - sigma**2).clamp(min=0).sqrt() * eps
    return x + sigma * noise() if eta else x


def _solver(method, times, levels, device):
    """diffusers' solver over our times and the sigma / alpha of each, `levels`; its time t - 1 is our t."""
    import diffusers

    kind = diffusers.UniPCMultistepScheduler if method == "unipc" else diffusers.DPMSolverMultistepScheduler
    more = {"algorithm_type": "sde-dpmsolver++"} if method == "sde" else {}
    solver = kind(num_train_timesteps=times[0], final_sigmas_type="zero", **more)
    solver.set_timesteps(len(times))  # then ours take the place of its own: it sums in float32, and may round to one time too many
    solver.timesteps, solver.sigmas, solver.num_inference_steps = torch.tensor(times, device=device) - 1, levels.float(), len(times)
    solver.set_begin_index(0)  # or it looks up each step's index, and waits for the device
    return solver


def _check(model, labels, omega, method, steps, eta, guidance_interval, clip, x_T):
    config = DMConfig.of(model.dmconfig)
    if method not in METHODS:
        raise ValueError(f"method = {method!r}; allowed is one of {', '.join(METHODS)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= config.T:
        raise ValueError(f"steps = {steps!r}; allowed is a whole number from 1 to T = {config.T}")
    if not is_finite(omega):
        raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
    if not is_finite(eta) or not 0 <= eta <= 1 or (eta and method != "ddim"):
        raise ValueError(f"eta = {eta!r} with method {method!r}; allowed is 0 to 1, and only with 'ddim'")
    if guidance_interval is not None:
        pair = isinstance(guidance_interval, (tuple, list)) and len(guidance_interval) == 2
        if not pair or not all(isinstance(v, Real) for v in guidance_interval) or not 0 <= guidance_interval[0] < guidance_interval[1]:
            raise ValueError(f"guidance_interval = {guidance_interval!r}; allowed is (low, high) with 0 <= low < high, or None")
    if not isinstance(clip, bool):
        pair = isinstance(clip, (tuple, list)) and len(clip) == 2
        if not pair or not all(map(is_finite, clip)) or not clip[0] < clip[1]:
            raise ValueError(f"clip = {clip!r}; allowed is True, False, None, or (low, high) with low < high")
    whole = torch.is_tensor(labels) and not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not whole or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels are {labels!r}; allowed is a tensor (B,) of whole numbers")
    if labels.min() < 0 or labels.max() >= config.num_classes:
        raise ValueError(f"labels {int(labels.min())} to {int(labels.max())}; allowed is 0 to {config.num_classes - 1}")
    wanted = (len(labels), config.num_channels, *config.input_dim)
    if x_T is not None and not (torch.is_tensor(x_T) and x_T.shape == wanted and x_T.is_floating_point() and x_T.isfinite().all()):
        raise ValueError(f"x_T is {getattr(x_T, 'shape', x_T)!r}; allowed is a tensor {wanted} of finite floats, or None")
