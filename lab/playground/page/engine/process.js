// A diffusion process as samplers use it, as lab/diffusion/process.py: x_t = alpha_t x_0 + sigma_t eps.
// Images are Float32Arrays, B images one after another. Time t is in {1, …, T}; t = T is noise, 0 the clean image.

/** (x_0, eps) from the network's output at x = alpha x_0 + sigma eps, by what the network predicts. */
export const OUTPUTS = {
  eps: (out, x, alpha, sigma) => ({ x_0: mixed([1 / alpha, x], [-sigma / alpha, out]), eps: out }),
  x_0: (out, x, alpha, sigma) => ({ x_0: out, eps: mixed([1 / sigma, x], [-alpha / sigma, out]) }),
  v: (out, x, alpha, sigma) => ({ x_0: mixed([alpha, x], [-sigma, out]), eps: mixed([sigma, x], [alpha, out]) }),
};

/** The weighted sum of images, from pairs of a weight and an image. */
export function mixed(...pairs) {
  const sum = new Float64Array(pairs[0][1].length);
  for (const [weight, image] of pairs) for (let i = 0; i < sum.length; i++) sum[i] += weight * image[i];
  return new Float32Array(sum);
}

/** Arrays one after another. */
export function joined(arrays) {
  const all = new Float32Array(arrays.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of arrays) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}

/** alpha and sigma of the times 0 … T, from the betas of 1 … T: alpha^2 is the product of 1 - beta. */
export function levels(beta) {
  let log = 0;
  const logs = [0, ...beta.map((each) => (log += Math.log1p(-each)))];
  return [logs.map((each) => Math.exp(each / 2)), logs.map((each) => Math.sqrt(Math.abs(Math.expm1(each))))];
}

export class Process {
  /** settings: those of settings.json. network(x, t, c, count): its output for `count` images, times and conditions; a promise. */
  constructor(settings, network) {
    const { T, beta_1, beta_T, shape, range, num_classes, condition_mask_value, output } = settings;
    const stride = (beta_T - beta_1) / Math.max(T - 1, 1);
    [this.alpha, this.sigma] = levels(Array.from({ length: T }, (_, i) => beta_1 + stride * i));
    Object.assign(this, { T, range, output, network, num_classes, size: shape.reduce((a, b) => a * b) });
    this.null_condition = new Float32Array(num_classes).fill(condition_mask_value);
  }

  /** One-hot rows of classes; null stands for no class. */
  embed(labels) {
    const one_hot = (label) => Float32Array.from({ length: this.num_classes }, (_, i) => Number(i === label));
    return joined(labels.map((label) => (label === null ? this.null_condition : one_hot(label))));
  }

  count(x) {
    return x.length / this.size;
  }

  /** The network's output for x_t under conditions. */
  ask(x, t, rows) {
    return this.network(x, new Float32Array(this.count(x)).fill(t / this.T), rows, this.count(x));
  }

  /** Predicted images, limited to the range of pixels. */
  limit(x_0) {
    const [black, white] = this.range;
    return x_0.map((value) => Math.min(Math.max(value, black), white));
  }

  seen(out, x, t) {
    return OUTPUTS[this.output](out, x, this.alpha[t], this.sigma[t]);
  }

  /** x_t of images: eq. (4), Ho et al. 2020, arXiv:2006.11239. */
  noised(x_0, t, noise) {
    return mixed([this.alpha[t], x_0], [this.sigma[t], noise]);
  }

  /** [r, deviation] of q(x_t | x_s), s < t: x_t = r x_s + deviation eps. */
  between(t, s) {
    const r = this.alpha[t] / this.alpha[s];
    return [r, Math.sqrt(Math.max(this.sigma[t] ** 2 - (r * this.sigma[s]) ** 2, 0))];
  }
}
