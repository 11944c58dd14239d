// Computes beside the page, so that the page never waits. In: a task. Out: its steps. A new task, or one without a name,
// cancels the one before.
import { RUNTIMES, better, network, unpacked } from "./engine/network.js";
import { Process } from "./engine/process.js";
import { noises } from "./engine/random.js";
import { FEW, edit, inpaint, sample } from "./engine/tasks.js";

const MOST = 4; // images a call of the network: a cancelled task ends after the call that runs
let newest = 0; // the id of the task that counts
let queue = Promise.resolve(); // one task at a time, as the network answers one call at a time
let current = 0; // the id of the task that is computed
let wasm = null; // its runtime
let run = null; // the network
let process = null;
let few = null; // the process of the network that draws in few calls, once it was asked for; a promise

class Cancelled extends Error {}

const ready = load().catch((error) => postMessage({ kind: "failed", message: String(error?.message ?? error) }));

onmessage = ({ data }) => {
  newest = data.id;
  queue = Promise.all([queue, ready]).then(() => process && data.name && data.id === newest && compute(data));
};

async function load() {
  wasm = begun("wasm"); // all files at once
  const [settings, bytes] = await Promise.all([fetched("settings.json"), fetched("network.onnx.gz").then(unpacked)]);
  const about = await settings.json();
  run = await network("wasm", ...(await wasm), bytes, about.shape);
  process = new Process(about, (...inputs) => called(run, ...inputs));
  process.few = () => distilled(about);
  process.hasten = () => hasten(bytes, about.shape);
  postMessage({ kind: "ready", provider: "wasm" });
}

/** The process of the network that draws in few calls. */
async function distilled(about) {
  const bytes = await unpacked(await fetched("few.onnx.gz"));
  const other = await network("wasm", ...(await wasm), bytes, about.shape);
  return new Process({ ...about, ...about.few }, (...inputs) => called(other, ...inputs));
}

/** The script of a runtime and the bytes of its WebAssembly. */
function begun(provider) {
  const { script, binary } = RUNTIMES[provider];
  return Promise.all([import(`./${script}`), fetched(binary).then(unpacked)]);
}

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} could not be loaded (${response.status})`);
  return response;
}

/** Go over to WebGPU, if there is a GPU that gives the same answers sooner. Once, after the first picture. */
async function hasten(bytes, shape) {
  process.hasten = null;
  if (!(await navigator.gpu?.requestAdapter().catch(() => null))) return;
  const gpu = await network("webgpu", ...(await begun("webgpu")), bytes, shape);
  const inputs = [noises([1, 1], process.size)(), new Float32Array([1, 1]), process.embed([3, null]), 2];
  queue = queue.then(async () => {
    if (!(await better(gpu, run, inputs).catch(() => false))) return; // it stays with wasm
    run = gpu;
    postMessage({ kind: "ready", provider: "webgpu" });
  });
}

/** A network's output, MOST images at once, for the task that is newest when each call begins. */
async function called(run, x, t, c, count) {
  const id = current;
  const out = new Float32Array(x.length);
  const [pixels, classes] = [x.length / count, c.length / count];
  for (let i = 0; i < count; i += MOST) {
    await new Promise((turn) => setTimeout(turn)); // lets a new task in
    if (id !== newest) throw new Cancelled();
    const end = Math.min(i + MOST, count);
    const part = [x.slice(i * pixels, end * pixels), t.slice(i, end), c.slice(i * classes, end * classes)];
    out.set(await run(...part, end - i), i * pixels);
  }
  return out;
}

async function compute(task) {
  const before = performance.now();
  current = task.id;
  try {
    for await (const { t, x, x_0 } of await walk(task)) postMessage({ kind: "step", id: task.id, t, x, x_0 });
    postMessage({ kind: "done", id: task.id, seconds: (performance.now() - before) / 1000 });
    process.hasten?.().catch(() => {}); // then it stays with wasm
  } catch (error) {
    if (!(error instanceof Cancelled)) postMessage({ kind: "error", id: task.id, message: String(error?.message ?? error) });
  }
}

async function walk({ name, labels, seeds, image, mask, ...how }) {
  const noise = noises(seeds, process.size);
  if (name === "inpaint") return inpaint(process, image, mask, labels, how, noise);
  if (name === "edit") return edit(process, image, labels, how, noise);
  if (how.method === FEW) few ??= process.few().catch((error) => ((few = null), Promise.reject(error)));
  return sample(how.method === FEW ? await few : process, labels, how, noise);
}
