// The sampling loop, as lab/diffusion/walk.py: a walk through a list of times, mostly down to the clean image at 0.

/**
 * Yields {t, x, x_0} for x at times[0], and one after each step to the next of `times`.
 * predict(x, t): see guidance.js. step: one of steps.js. noise(): standard normal numbers like x. keep(x, s, noise): puts known
 * pixels back into x_s, with the step's own noise.
 */
export async function* walk(process, predict, step, times, start, noise, keep = null) {
  let x = await start();
  yield { t: times[0], x, x_0: x };
  for (let i = 0; i + 1 < times.length; i++) {
    const [t, s] = [times[i], times[i + 1]];
    const zero = new Float32Array(x.length);
    const drawn = once(s ? noise : () => zero);
    const seen = await predict(x, t);
    x = step(process, x, seen, t, s, drawn);
    if (keep) x = keep(x, s, drawn);
    yield { t: s, x, x_0: seen.x_0 };
  }
}

/** `steps` of the times 1 … T, evenly from T downwards, then 0. */
export function timesteps(T, steps) {
  return [...Array.from({ length: steps }, (_, i) => rounded((T * (steps - i)) / steps)), 0];
}

/** x_T drawn from q(x_T | predicted x_0), from which samplers that add little noise do not draw pale digits. */
export async function started(process, predict, noise) {
  const { x_0 } = await predict(noise(), process.T);
  return process.noised(process.limit(x_0), process.T, noise());
}

/** Rounded as Python does: a half to the even neighbour. */
function rounded(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

/** draw(), cached: step and keep share one draw. */
function once(draw) {
  let drawn = null;
  return () => (drawn ??= draw());
}

