"""Sampler updates x_t -> x_s: functions (process, x, seen, t, s, noise). noise() is one draw a step, and zero at the last step."""

import math

import torch

LEAST = 1e-6  # replaces alpha = 0, which a flow has at T, where a solver divides by it


def ddim(eta=0.0):
    """Eq. (12), Song et al. 2021, arXiv:2010.02502, with eta times the posterior's noise. For a flow, eta = 0 is Euler's step."""

    def step(process, x, seen, t, s, noise):
        sigma = eta and eta * process.sigma[s] / process.sigma[t] * process.between(t, s)[1]
        x = process.alpha[s] * seen.x_0 + max(process.sigma[s] ** 2 - sigma**2, 0) ** 0.5 * seen.eps
        return x + sigma * noise() if sigma else x

    return step


def posterior(process, x, seen, t, s, noise):
    """q(x_s | x_t, x_0), eq. (7), Ho et al. 2020, arXiv:2006.11239; with the log-variance that the network has learned, if it has."""
    r, deviation = process.between(t, s)
    kept = process.sigma[s] / process.sigma[t]
    mean = process.alpha[s] * (deviation / process.sigma[t]) ** 2 * seen.x_0 + r * kept**2 * x
    sigma = kept * deviation if seen.log_variance is None else (seen.log_variance / 2).exp()
    return mean + sigma * noise()


def renoised(process, x, seen, t, s, noise):
    """x_s drawn anew from the predicted image, with nothing kept of x_t: algorithm 1, Song et al. 2023, arXiv:2303.01469."""
    return process.noised(seen.x_0, s, noise())


def heun(predict):
    """Heun's method for a flow: the mean of the velocities at both ends, with one more call of the network by `predict`.

    Algorithm 1, Karras et al. 2022, arXiv:2206.00364, on the flow's own ODE.
    """
    euler = ddim()

    def step(process, x, seen, t, s, noise):
        end = predict(euler(process, x, seen, t, s, noise), s, s)
        velocity = (seen.x_0 - seen.eps + end.x_0 - end.eps) / 2
        return x + (process.sigma[t] - process.sigma[s]) * velocity

    return step


def multistep(kind, process, times):
    """A multistep solver of diffusers over these times: "dpmpp", "sde" or "unipc". It keeps state: make one for each walk.

    It assumes alpha^2 + sigma^2 = 1, so x is divided by the root of that sum, which is 1 except for flows.
    """
    import diffusers

    solvers = {
        "dpmpp": lambda **more: diffusers.DPMSolverMultistepScheduler(**more),
        "sde": lambda **more: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **more),
        "unipc": lambda **more: diffusers.UniPCMultistepScheduler(**more),
    }
    solver = solvers[kind](num_train_timesteps=times[0], final_sigmas_type="zero", prediction_type="sample")
    count = len(times) - 1
    solver.set_timesteps(count)  # we replace its times: summed in float32, they may round to one too many
    solver.timesteps = torch.tensor(times[:-1], device=process.device) - 1  # its time begins at 0
    size = [math.hypot(process.alpha[t], process.sigma[t]) for t in times]
    solver.sigmas = torch.tensor([process.sigma[t] / (process.alpha[t] or LEAST) for t in times], dtype=torch.float32)
    solver.num_inference_steps = count
    solver.set_begin_index(0)  # else it looks up each step's index, which waits for the device

    def step(process, x, seen, t, s, noise):
        more, i = {"variance_noise": noise()} if kind == "sde" else {}, times.index(t)
        return solver.step(seen.x_0, solver.timesteps[i], x / size[i], **more).prev_sample * size[i + 1]

    return step
