"""The engine's sampling loop: drawing and editing are walks through a list of times, mostly down to the clean image at 0."""

from collections import deque, namedtuple

import torch

Step = namedtuple("Step", "t x x_0")
Step.__doc__ = "Where a walk stands: x = x_t at time t (0 at the end) and the image x_0 predicted on the way, (B, C, H, W) each."


def walk(process, predict, step, times, start, noise, keep=None, rounds=1):
    """Yields a Step for x at times[0], and one after each step to the next of `times`.

    predict(x, t, s): a Seen, see lab.diffusion.guidance. step: one of lab.diffusion.steps. start(): x at the first time.
    noise(): standard normal numbers like x. keep(x, s, noise): puts known pixels back into x_s, with the step's own noise.
    rounds: how often each step is taken, noised back to t in between: U of algorithm 1, Lugmayr et al. 2022, arXiv:2201.09865.
    """
    with torch.no_grad(), process.running():
        x = start()
    yield Step(times[0], x, x)
    for t, s in zip(times, times[1:]):
        for left in reversed(range(rounds if s else 1)):
            with torch.no_grad(), process.running():  # not around the yield: the caller finds its network in the mode it left it in
                once = _once(noise if s else lambda x=x: torch.zeros_like(x))
                seen = predict(x, t, s)
                x = step(process, x, seen, t, s, once)
                x = keep(x, s, once) if keep else x
                if left:
                    r, deviation = process.between(t, s)
                    x = r * x + deviation * noise()
        yield Step(s, x, seen.x_0)


def final(steps):
    """The images of the last of an iterable of Steps, (B, C, H, W); earlier ones are not kept."""
    return deque(steps, maxlen=1).pop().x


def timesteps(T, steps):
    """`steps` of the times 1 … T, evenly from T downwards, then 0: a list."""
    return [*(round(T * (steps - i) / steps) for i in range(steps)), 0]


def _once(draw):
    """draw(), cached: step and keep share one draw."""
    drawn = []

    def once():
        if not drawn:
            drawn.append(draw())
        return drawn[0]

    return once
