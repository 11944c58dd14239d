// Classifier-free guidance, as lab/diffusion/guidance.py: (1 + omega) output_c - omega output_u, eq. (6), Ho & Salimans 2022.
import { joined, mixed } from "./process.js";

/** ask(x, t) -> the guided output. omega: a weight for each image; where all are 0, or all -1, one call of the network does. */
export function guided(process, rows, omega) {
  const null_rows = joined(omega.map(() => process.null_condition));
  return async (x, t) => {
    if (omega.every((each) => each === 0)) return process.ask(x, t, rows);
    if (omega.every((each) => each === -1)) return process.ask(x, t, null_rows);
    const out = await process.ask(joined([x, x]), t, joined([rows, null_rows]));
    const [out_c, out_u] = [out.subarray(0, x.length), out.subarray(x.length)];
    return out_c.map((value, i) => {
      const weight = omega[Math.floor(i / process.size)];
      return (1 + weight) * value - weight * out_u[i];
    });
  };
}

/** Make of ask a function predict(x, t) -> {x_0, eps}. clip: x_0 is kept in range, and eps is then recomputed from it. */
export function seeing(process, ask, clip = false) {
  return async (x, t) => {
    const seen = process.seen(await ask(x, t), x, t);
    if (!clip) return seen;
    const x_0 = process.limit(seen.x_0);
    return { x_0, eps: mixed([1 / process.sigma[t], x], [-process.alpha[t] / process.sigma[t], x_0]) };
  };
}
