// Sampler updates x_t -> x_s, as lab/diffusion/steps.py: functions (process, x, seen, t, s, noise). noise() is zero at the last step.
import { mixed } from "./process.js";

/** Eq. (12), Song et al. 2021, arXiv:2010.02502, with eta times the posterior's noise. */
export function ddim(eta = 0) {
  return (process, x, seen, t, s, noise) => {
    const sigma = eta && (eta * process.sigma[s] * process.between(t, s)[1]) / process.sigma[t];
    const left = Math.sqrt(Math.max(process.sigma[s] ** 2 - sigma ** 2, 0));
    const pairs = [[process.alpha[s], seen.x_0], [left, seen.eps]];
    return mixed(...pairs, ...(sigma ? [[sigma, noise()]] : []));
  };
}

/** q(x_s | x_t, x_0), eq. (7), Ho et al. 2020, arXiv:2006.11239. */
export function posterior(process, x, seen, t, s, noise) {
  const [r, deviation] = process.between(t, s);
  const kept = process.sigma[s] / process.sigma[t];
  const share = process.alpha[s] * (deviation / process.sigma[t]) ** 2;
  return mixed([share, seen.x_0], [r * kept ** 2, x], [kept * deviation, noise()]);
}

/** x_s drawn anew from the predicted image, with nothing kept of x_t: algorithm 1, Song et al. 2023, arXiv:2303.01469. */
export function renoised(process, x, seen, t, s, noise) {
  return process.noised(seen.x_0, s, noise());
}

/**
 * DPM-Solver++ (2M), Lu et al. 2022, arXiv:2211.01095: "dpmpp", or with noise "sde". It keeps state: make one for each walk.
 * The first and the last step are of first order, as in diffusers, which lab/diffusion/steps.py uses.
 */
export function multistep(kind) {
  let last = null; // the x_0 of the step before, and that step's length in lambda
  return (process, x, seen, t, s, noise) => {
    const lambda = (time) => Math.log(process.alpha[time] / process.sigma[time]);
    const h = lambda(s) - lambda(t); // infinite at the last step
    const decay = Math.exp(-h);
    const rest = kind === "sde" ? 1 - decay ** 2 : 1 - decay;
    const slope = last && s ? (0.5 * h) / last.h : 0; // of x_0 in lambda, from two predictions
    const pairs = [[process.alpha[s] * rest * (1 + slope), seen.x_0]];
    if (slope) pairs.push([-process.alpha[s] * rest * slope, last.x_0]);
    pairs.push([(process.sigma[s] / process.sigma[t]) * (kind === "sde" ? decay : 1), x]);
    if (kind === "sde") pairs.push([process.sigma[s] * Math.sqrt(rest), noise()]);
    last = { x_0: seen.x_0, h };
    return mixed(...pairs);
  };
}
