// What the page computes, each a walk: sample as lab/diffusion/sampling.py, edit and inpaint as lab/editing/tasks.py.
// labels: a class for each image, null for none. omega: a guidance weight for each image. noise(): numbers for all of them.
import { guided, seeing } from "./guidance.js";
import { ddim, multistep, posterior, renoised } from "./steps.js";
import { started, timesteps, walk } from "./walk.js";

/** What makes the step of a walk. */
export const METHODS = {
  sde: () => multistep("sde"),
  dpmpp: () => multistep("dpmpp"),
  ddim: () => ddim(),
  ddpm: () => ddim(1),
};

export const FEW = "few"; // the method of a network of lab/distillation, which has no other: guidance is in its weights

/** New images from noise. `steps` = T of "ddpm" is all of algorithm 2, Ho et al. 2020. */
export function sample(process, labels, { omega, method, steps }, noise) {
  const rows = process.embed(labels);
  const times = timesteps(process.T, steps);
  if (method === FEW) return walk(process, seeing(process, (x, t) => process.ask(x, t, rows)), renoised, times, noise, noise);
  const plain = (weights) => seeing(process, guided(process, rows, weights));
  const unguided = plain(weighted(labels, omega).map((each) => Math.min(each, 0))); // guidance exaggerates x_0
  const start = () => started(process, unguided, noise);
  return walk(process, plain(weighted(labels, omega)), METHODS[method](), times, start, noise);
}

/** Image to image: noise at the time `start` of `steps` times, then denoising. SDEdit, Meng et al. 2022, arXiv:2108.01073. */
export function edit(process, images, labels, { omega, steps, start }, noise) {
  const times = timesteps(process.T, steps).slice(start);
  return walk(process, clipped(process, labels, omega), posterior, times, () => process.noised(images, times[0], noise()), noise);
}

/** Draw anew where `mask` is 1; all other pixels come out exactly as they went in. mask: a number for each pixel of `images`. */
export function inpaint(process, images, mask, labels, { omega, steps }, noise) {
  const times = timesteps(process.T, steps);
  const keep = (x, t, noise) => {
    const known = process.noised(images, t, noise());
    return x.map((value, i) => (mask[i] ? value : known[i]));
  };
  const start = () => {
    const x = noise();
    return keep(x, times[0], () => x);
  };
  return walk(process, clipped(process, labels, omega), posterior, times, start, noise, keep);
}

function clipped(process, labels, omega) {
  return seeing(process, guided(process, process.embed(labels), weighted(labels, omega)), true);
}

/** The weights, -1 for an image without a class. */
function weighted(labels, omega) {
  return labels.map((label, i) => (label === null ? -1 : omega[i]));
}
