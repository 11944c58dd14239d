// The network by onnxruntime-web: x_t (B, C, H, W), times t / T (B, 1, 1, 1) and conditions (B, K) in, its output out.

export const RUNTIMES = {
  wasm: { script: "ort.wasm.bundle.min.mjs", binary: "ort-wasm-simd-threaded.wasm.gz" },
  webgpu: { script: "ort.webgpu.bundle.min.mjs", binary: "ort-wasm-simd-threaded.asyncify.wasm.gz" },
};
const CLOSE = 1e-3; // how far a GPU's output may be from that of wasm; both compute in float32

/**
 * A function (x, t, c, count) -> the output. provider: "wasm" or "webgpu". ort: the module of its script. binary: the bytes of its
 * WebAssembly, unpacked. model: the bytes of the ONNX file. shape: (C, H, W).
 */
export async function network(provider, ort, binary, model, shape) {
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // more need headers that a static host such as GitHub Pages cannot send
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, { executionProviders: [provider] });
  return async (x, t, c, count) => {
    const feeds = {
      x: new ort.Tensor("float32", x, [count, ...shape]),
      t: new ort.Tensor("float32", t, [count, 1, 1, 1]),
      c: new ort.Tensor("float32", c, [count, c.length / count]),
    };
    const { out } = await session.run(feeds);
    return out.data;
  };
}

/** The bytes of a gzipped response. */
export async function unpacked(response) {
  return new Uint8Array(await new Response(response.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

/** Whether another network gives the same output as the first one on these inputs, and takes less time. */
export async function better(other, first, inputs) {
  const [[one], [two]] = [await timed(first, inputs), await timed(other, inputs)]; // the first call sets up a GPU's kernels
  const far = one.reduce((most, value, i) => Math.max(most, Math.abs(value - two[i])), 0);
  if (!(far <= CLOSE)) return false;
  return (await timed(other, inputs))[1] < (await timed(first, inputs))[1];
}

async function timed(network, inputs) {
  const before = performance.now();
  const out = await network(...inputs);
  return [out, performance.now() - before];
}
