// The page by itself: its settings lie beside it, and a Worker computes.
import { start } from "./app.js";

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
try {
  const answer = await fetch("settings.json");
  if (!answer.ok) throw new Error(`settings.json could not be loaded (${answer.status})`);
  start(document, await answer.json(), worker);
} catch (error) {
  document.getElementById("status").textContent = `The page could not be loaded: ${error.message}. Reload it to try again.`;
}
