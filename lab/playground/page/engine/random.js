// Standard normal numbers from a seed.

/** noise(): `size` numbers for each seed, one after another; images of equal seeds get equal noise. */
export function noises(seeds, size) {
  const draws = seeds.map(normal);
  return () => {
    const all = new Float32Array(seeds.length * size);
    draws.forEach((draw, image) => {
      for (let i = 0; i < size; i++) all[image * size + i] = draw();
    });
    return all;
  };
}

/** A function that draws standard normal numbers, by Box & Muller 1958. */
export function normal(seed) {
  const uniform = sfc32(seed);
  let spare = null;
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/** Uniform numbers in [0, 1): Chris Doty-Humphrey's Small Fast Counting generator, 32 bits (PractRand). */
function sfc32(seed) {
  let [a, b, c, counter] = [seed | 0, Math.floor(seed / 2 ** 32) | 0, 0, 1];
  const next = () => {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i++) next(); // mixes the seed in
  return () => next() / 2 ** 32;
}
