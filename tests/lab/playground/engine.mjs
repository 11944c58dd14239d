// Runs the page's own modules in Node on what tests have written: node engine.mjs PAGE FOLDER. PAGE: an exported page.
// Each line of its input is a task {name, ...} in JSON, which may name files of float32 in FOLDER. The answer is written to answer.bin
// there, and then a line of output says so.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";
import zlib from "node:zlib";

const [page, folder] = process.argv.slice(2).map((each) => path.resolve(each));
const of = (name) => import(pathToFileURL(path.join(page, name)));
const [{ OUTPUTS, Process }, { RUNTIMES, network }, { timesteps }, tasks] = await Promise.all(
  ["process", "network", "walk", "tasks"].map((name) => of(`engine/${name}.js`)),
);
const settings = JSON.parse(fs.readFileSync(path.join(page, "settings.json")));
const binary = zlib.gunzipSync(fs.readFileSync(path.join(page, RUNTIMES.wasm.binary)));
const ort = await of(RUNTIMES.wasm.script);
const opened = (name) => network("wasm", ort, binary, zlib.gunzipSync(fs.readFileSync(path.join(page, `${name}.gz`))), settings.shape);
const run = await opened("network.onnx");
const way = new Process(settings, run);
const few = new Process({ ...settings, ...settings.few }, await opened("few.onnx"));
const read = (name) => new Float32Array(new Uint8Array(fs.readFileSync(path.join(folder, name))).buffer);

/** noise(): one draw after another of a file. */
function noises(name, size) {
  const all = read(name);
  let at = 0;
  return () => all.slice(at, (at += size));
}

const ANSWERS = {
  levels: () => [...way.alpha, ...way.sigma],
  times: () => Array.from({ length: way.T }, (_, i) => timesteps(way.T, i + 1)).flat(),
  network: ({ x, t, c, count }) => run(read(x), read(t), read(c), count),
  seen: ({ output, x, out, t }) => {
    const { x_0, eps } = OUTPUTS[output](read(out), read(x), way.alpha[t], way.sigma[t]);
    return [...x_0, ...eps];
  },
  walk: async ({ task, labels, image, mask, noise, ...how }) => {
    const draw = noises(noise, labels.length * way.size);
    const walk = {
      sample: () => tasks.sample(how.method === tasks.FEW ? few : way, labels, how, draw),
      edit: () => tasks.edit(way, read(image), labels, how, draw),
      inpaint: () => tasks.inpaint(way, read(image), read(mask), labels, how, draw),
    }[task]();
    const all = [];
    for await (const { t, x, x_0 } of walk) all.push(t, ...x, ...x_0);
    return all;
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { name, ...asked } = JSON.parse(line);
  const answer = Float32Array.from(await ANSWERS[name](asked));
  fs.writeFileSync(path.join(folder, "answer.bin"), Buffer.from(answer.buffer));
  console.log("answered");
}
process.exit(); // the runtime would keep Node waiting
