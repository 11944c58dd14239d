"""Published methods of guidance: functions (process, rows, omega) -> predict(x, t, s), for `sample(..., guidance=method)`.

A predicted image x_0 is linear in the network's output, so guidance by weights on outputs and on images is the same; here it is written
in images. Papers that write w or gamma mean 1 + omega.
"""

from lab.diffusion.guidance import guided, seeing
from lab.diffusion.process import Seen
from lab.diffusion.process import process as as_process


def plain(process, rows, omega):
    """Classifier-free guidance: eq. (6), Ho & Salimans 2022, arXiv:2207.12598."""
    return seeing(process, guided(process, rows, omega))


def interval(low, high, method=plain):
    """`method` where low < sigma / alpha <= high, the condition alone elsewhere: Kynkäänniemi et al. 2024, arXiv:2404.07724."""

    def made(process, rows, omega):
        inside, outside = method(process, rows, omega), plain(process, rows, 0.0)
        is_inside = lambda t: low * process.alpha[t] < process.sigma[t] <= high * process.alpha[t]
        return lambda x, t, s: (inside if is_inside(t) else outside)(x, t, s)

    return made


def autoguidance(weak):
    """Away from a weaker model under the same condition, in place of the null condition: Karras et al. 2024, arXiv:2406.02507."""
    weak = as_process(weak)

    def made(process, rows, omega):
        def predict(x, t, s):
            strong, poor = (each.seen(each.ask(x, t, rows, s)[0], x, t)[0] for each in (process, weak))
            return _seen(process, x, t, (1 + omega) * strong - omega * poor)

        return predict

    return made


def cfg_pp(process, rows, omega):
    """CFG++: the guided image, but the noise of the null condition: Chung et al. 2024, arXiv:2406.08070, whose lambda is 1 + omega.

    For the steps that use the predicted noise: "ddim" and "ddpm".
    """

    def predict(x, t, s):
        x_c, x_u = _both(process, x, t, rows, s)
        return Seen((1 + omega) * x_c - omega * x_u, _seen(process, x, t, x_u).eps, None)

    return predict


def projected(eta=0.0, radius=float("inf"), momentum=-0.5):
    """Adaptive projected guidance: Sadat et al. 2024, arXiv:2410.02416, algorithm 1.

    eta: the share that is kept of the difference's part along the image, which oversaturates. radius: the largest norm of the
    difference. momentum: the weight of the differences before. One predict for each walk, as it keeps these.
    """

    def made(process, rows, omega):
        average = 0.0

        def predict(x, t, s):
            nonlocal average
            x_c, x_u = _both(process, x, t, rows, s)
            average = difference = x_c - x_u + momentum * average
            difference = difference * (radius / _norm(difference)).clamp(max=1)
            unit = x_c / _norm(x_c)
            along = (difference * unit).sum((1, 2, 3), keepdim=True) * unit
            return _seen(process, x, t, x_c + omega * (difference - along + eta * along))

        return predict

    return made


def rescaled(phi=0.7):
    """The guided image with a share phi of the conditional one's contrast: sec. 3.4, Lin et al. 2023, arXiv:2305.08891."""

    def made(process, rows, omega):
        def predict(x, t, s):
            x_c, x_u = _both(process, x, t, rows, s)
            x_0 = (1 + omega) * x_c - omega * x_u
            contrast = x_c.std((1, 2, 3), keepdim=True) / x_0.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
            return _seen(process, x, t, (phi * contrast + 1 - phi) * x_0)

        return predict

    return made


def _both(process, x, t, rows, s):
    """The images predicted under the condition and under the null condition."""
    out_c, out_u, _ = process.ask_both(x, t, rows, process.null_condition.expand_as(rows), s)
    return process.seen(out_c, x, t)[0], process.seen(out_u, x, t)[0]


def _seen(process, x, t, x_0):
    """A Seen of a predicted image and the noise that then is in x."""
    return Seen(x_0, (x - process.alpha[t] * x_0) / process.sigma[t], None)


def _norm(images):
    return images.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
