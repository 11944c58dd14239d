// The page by itself: its settings lie beside it, and a Worker computes.
import { start } from "./app.js";

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
start(document, await (await fetch("settings.json")).json(), worker);
