// The page: reads the settings, has a worker compute, shows the steps.
import { Pad } from "./pad.js";
import { film, pixels, scaled, show } from "./pictures.js";

const LEADS = {
  draw: "Choose a digit and watch it come out of the noise. The slider below the pictures goes back in time.",
  compare: "The same noise, guided twice: how much does the network insist on the digit asked for?",
  complete: "Draw one half of a digit. The network draws the other half, so that both fit.",
  turn: "Lay noise over a digit and have another one come out. With less noise more of the old one stays.",
  write: "A number in the network's handwriting, all digits at once.",
};
const METHODS = {
  sde: "Adds noise on the way. In nine steps its digits are closest to real ones.",
  dpmpp: "No noise on the way: the same start always gives the same digit.",
  ddim: "The simplest without noise. It wants more steps.",
  ddpm: "The original: with all {T} steps it is the algorithm of Ho et al. 2020.",
  few: "Another network, trained to draw in one, two or four steps. How much it insists on the digit was learned with the rest.",
};
const STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 200, 400];
const PROVIDERS = { wasm: "Computed by WebAssembly.", webgpu: "Computed by WebGPU.", kernel: "Computed by the notebook's kernel." };
const HALVES = { top: (x, y) => y < 14, bottom: (x, y) => y >= 14, left: (x) => x < 14, right: (x) => x >= 14 };
const EXAMPLES = [
  { digit: 8, lines: [arc(14, 9.5, 4, 4, 0, 360), arc(14, 18.5, 4.6, 4.8, 0, 360)] },
  { digit: 2, lines: [[...arc(13.5, 9.5, 4.5, 4.5, -170, 40), [9, 22], [20, 22]]] },
  { digit: 0, lines: [arc(14, 14, 5, 8, 0, 360)] },
];

const get = (id) => root.querySelector(`#${id}`);
let root = null; // where the page's elements are: a document, or a part of one
let page = null; // the element around all of them
let tabs = null;
let worker = null; // has postMessage(task), and answers by onmessage
let settings = null;
let allowed = null; // numbers of steps, and those of the method "few"
let pad = null;
const kept = { draw: 9, few: 1, complete: 30, turn: 30 }; // steps; compare and write have those of draw
const drawn = { complete: null, turn: null }; // what was on the pad when a tab was left
let tab = "draw";
let example = 0;
let task = null; // {id, tab, count, steps: [{t, x, x_0}], views, about, then}
let moment = 0; // the step shown
let follow = true; // whether the newest step is shown
let playing = null;
let waiting = null;
let broken = ""; // why nothing can be computed before the page is loaded anew

/** Fill the elements of index.html below `where` with life. about: the settings of the model. computer: see `worker`. */
export function start(where, about, computer) {
  [root, settings, worker] = [where, about, computer];
  page = root.querySelector(".page");
  tabs = [...root.querySelectorAll("[role=tab]")];
  allowed = [[...STEPS.filter((steps) => steps < settings.T), settings.T], settings.few?.steps];
  pad = new Pad(get("pad"), redrawn);
  worker.onmessage = ({ data }) => answered(data);
  worker.onerror = () => complain(broken = "This browser cannot run the page; a current Chrome, Edge, Firefox or Safari can.");
  filled();
  listening();
  select("draw");
}

// ---- the settings

function digits(name, id, more = []) {
  const all = [...Array(10).keys(), ...more];
  get(id).innerHTML = all.map((each) => `<label><input type="radio" name="${name}" value="${each}"><span>${each}</span></label>`).join("");
}

function digit() {
  const value = root.querySelector("[name=class]:checked").value;
  return value === "any" ? null : Number(value);
}

function choose(value) {
  root.querySelector(`[name=class][value="${value}"]`).checked = true;
}

/** Whether the network draws that needs few calls. */
function few() {
  return get("method").value === "few" && (tab === "draw" || tab === "write");
}

function choices() {
  return allowed[Number(few())];
}

function steps() {
  return choices()[get("steps").value];
}

/** Which number of `kept` the slider of steps holds. */
function place() {
  return few() ? "few" : tab in kept ? tab : "draw";
}

/** Offer what tab and method allow. */
function fit() {
  get("method").querySelector("[value=few]")?.toggleAttribute("disabled", tab === "compare"); // it has one guidance
  if (tab === "compare" && get("method").value === "few") get("method").value = "sde";
  get("steps").max = choices().length - 1;
  get("steps").value = choices().findLastIndex((steps) => steps <= kept[place()]);
  get("omega").disabled = few();
  const any = root.querySelector("[name=class][value=any]");
  any.parentElement.hidden = tab === "compare" || few(); // without a class both are the same; and "few" has learned classes alone
  if (any.parentElement.hidden && any.checked) choose(3);
}

function seed() {
  const value = Math.floor(Number(get("seed").value));
  return value >= 0 && value < 2 ** 32 ? value : 0;
}

function random() {
  return Math.floor(Math.random() * 1e6);
}

function mask() {
  const inside = HALVES[root.querySelector("[name=half]:checked").value];
  return Array.from({ length: 28 * 28 }, (_, i) => Number(inside(i % 28, Math.floor(i / 28))));
}

function label() {
  const sign = (id) => get(id).value.replace("-", "−");
  get("omega-value").value = few() ? "learned" : sign("omega");
  get("omega2-value").value = sign("omega2");
  get("change-value").value = `${get("change").value} %`;
  get("steps-value").value = steps();
  get("steps").setAttribute("aria-valuetext", `${steps()} ${steps() === 1 ? "step" : "steps"}`);
  get("method-hint").textContent = METHODS[get("method").value].replace("{T}", settings.T);
}

// ---- what each tab computes

const TASKS = {
  draw: () => sampled([digit()], [Number(get("omega").value)], [seed()], [{ of: [0] }], named(digit())),
  compare: () => {
    const omega = [get("omega2"), get("omega")].map((each) => Number(each.value));
    const views = omega.map((each, i) => ({ of: [i], title: `ω = ${String(each).replace("-", "−")}` }));
    return sampled([digit(), digit()], omega, [seed(), seed()], views, `${named(digit())} twice`);
  },
  write: () => {
    const text = [...get("text").value.replace(/\D/g, "")].map(Number);
    if (!text.length) return "Type a number to write.";
    const views = [{ of: text.map((_, i) => i), wide: true }];
    return sampled(text, text.map(() => Number(get("omega").value)), text.map((_, i) => seed() + i), views, text.join(""));
  },
  complete: () => {
    if (pad.empty) return "Draw one half of a digit, and the network draws the other half.";
    return edited({ name: "inpaint", mask: mask() }, `the other half of ${named(digit())}`, steps());
  },
  turn: () => {
    if (pad.empty) return "Draw a digit to turn into another.";
    const start = Math.round(steps() * (1 - get("change").value / 100));
    return edited({ name: "edit", start }, named(digit()), steps() - start);
  },
};

function sampled(labels, omega, seeds, views, about) {
  const how = { name: "sample", labels, omega, seeds, method: get("method").value, steps: steps() };
  return { how, count: steps() + 1, views, about };
}

function edited(how, about, count) {
  const more = { labels: [digit()], omega: [Number(get("omega").value)], seeds: [seed()], steps: steps() };
  return { how: { ...how, ...more, image: scaled(pad.pixels, settings.range) }, count: count + 1, views: [{ of: [0] }], about };
}

function named(value) {
  return value === null ? "a digit" : `${value === 8 ? "an" : "a"} ${value}`;
}

/** Begin what the tab computes, soon: a slider that moves is no series of tasks. It cancels what is being computed. */
function run() {
  label();
  if (task?.then && task.tab === tab) return; // which runs with these settings, once the digit to start from is there
  clearTimeout(waiting);
  waiting = setTimeout(() => begin(TASKS[tab]()), 120);
}

/** The pad is somebody's own now. */
function redrawn() {
  if (task) task.then = null;
  run();
}

function begin(next) {
  stop();
  clearTimeout(waiting);
  const id = (task?.id ?? Math.floor(Math.random() * 2 ** 40)) + 1; // several views of a widget hear each other
  const nothing = typeof next === "string"; // to do; it says why
  task = { ...(nothing ? { views: [] } : next), id, tab, steps: [] };
  follow = true;
  get("problem").hidden = !broken;
  if (nothing) empty();
  if (nothing || get("provider").textContent) get("status").textContent = nothing ? next : `Drawing ${task.about} …`;
  worker.postMessage({ id, ...task.how });
}

/** A digit of the network's for the tab "turn" to start from. */
function fresh(number = seed()) {
  const from = Number(get("from").value);
  const how = { name: "sample", labels: [from], omega: [2], seeds: [number], method: "dpmpp", steps: Math.min(9, settings.T) };
  const before = pad.pixels.slice();
  const then = ({ x }) => {
    if (pad.pixels.every((value, i) => value === before[i])) pad.show(pixels(x, settings.range), true); // else somebody is drawing
    run();
  };
  begin({ how, count: how.steps + 1, views: [{ of: [0] }], about: named(from), then });
}

// ---- what the worker says

function answered(data) {
  if (data.kind === "ready") return (get("provider").textContent = PROVIDERS[data.provider]);
  if (data.kind === "failed") return complain(broken = `The network could not be loaded: ${data.message}. Reload the page to try again.`);
  if (data.id !== task?.id || task.tab !== tab) return;
  if (data.kind === "step") return stepped(data);
  const { then } = task;
  task.then = null;
  if (data.kind === "error") return complain(`This could not be computed: ${data.message}.`);
  if (then) return then(task.steps.at(-1));
  const count = task.count - 1;
  const done = `${task.about[0].toUpperCase()}${task.about.slice(1)}`;
  get("status").textContent = `${done}: ${count} ${count === 1 ? "step" : "steps"}, ${data.seconds.toFixed(1)} seconds.`;
  page.dataset.done = task.id;
}

function complain(text) {
  get("problem").textContent = text;
  get("problem").hidden = false;
  get("status").textContent = "";
}

function stepped({ t, x, x_0 }) {
  if (!task.steps.length) {
    arrange();
    get("status").textContent = `Drawing ${task.about} …`;
  }
  task.steps.push({ t, x, x_0 });
  get("progress").value = (task.steps.length - 1) / Math.max(task.count - 1, 1);
  get("moment").max = task.count - 1;
  if (follow) moment = task.steps.length - 1;
  paint();
}

// ---- the pictures

function arrange() {
  const made = task.views.map((view) => {
    const box = document.createElement("div");
    box.className = view.wide ? "view wide" : "view";
    box.style.setProperty("--columns", Math.min(view.of.length, 10));
    box.innerHTML = `${view.title ? `<h2>${view.title}</h2>` : ""}
      <figure><figcaption>x<sub>t</sub> <span>with noise</span></figcaption><canvas role="img"></canvas></figure>
      <figure><figcaption>x̂<sub>0</sub> <span>predicted</span></figcaption><canvas role="img"></canvas></figure>`;
    [view.x, view.x_0] = box.querySelectorAll("canvas");
    return box;
  });
  get("views").replaceChildren(...made);
  get("time").hidden = false;
  get("film").hidden = tab === "write";
}

function empty() {
  get("time").hidden = true;
  get("views").replaceChildren();
  get("progress").value = 0;
}

function paint() {
  const { t, x, x_0 } = task.steps[moment];
  for (const view of task.views) {
    show(view.x, x, view.of, settings.range);
    show(view.x_0, x_0, view.of, settings.range);
    view.x.setAttribute("aria-label", t ? `${task.about} with noise at t = ${t}` : `${task.about}, finished`);
    view.x_0.setAttribute("aria-label", `the picture predicted at t = ${t}`);
  }
  get("moment").value = moment;
  get("moment-value").value = `t = ${t}`;
  get("moment").setAttribute("aria-valuetext", `t = ${t}`);
  if (tab !== "write") {
    const rows = (step) => (task.views.length > 1 ? task.views.map((view) => [step.x_0, view.of[0]]) : [[step.x, 0], [step.x_0, 0]]);
    const colour = getComputedStyle(page).getPropertyValue("--accent");
    task.shown = film(get("film"), task.steps, task.count, rows, settings.range, moment, colour);
  }
}

function look(index) {
  if (!task?.steps.length) return;
  follow = false;
  moment = Math.min(Number(index), task.steps.length - 1);
  paint();
}

function stop() {
  clearInterval(playing);
  playing = null;
  get("play").textContent = "Play";
  get("play").setAttribute("aria-pressed", "false");
}

function play() {
  if (playing) return stop();
  get("play").textContent = "Pause";
  get("play").setAttribute("aria-pressed", "true");
  look(moment + 1 >= task.steps.length ? 0 : moment);
  playing = setInterval(() => (moment + 1 < task.steps.length ? look(moment + 1) : stop()), Math.max(30, 2500 / task.count));
}

/** The pictures as shown, ten screen pixels a pixel; those of several views side by side. */
function save() {
  if (!task?.steps.length) return; // the next picture is on its way
  const canvas = document.createElement("canvas");
  show(canvas, task.steps[moment].x, task.views.flatMap((view) => view.of), settings.range, 10);
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${tab === "write" ? task.how.labels.join("") : `digit-${task.how.labels[0] ?? "any"}`}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// ---- the tabs

function select(name) {
  if (tab in drawn) drawn[tab] = pad.blank ? null : { pixels: pad.pixels, given: pad.given };
  tab = name;
  page.dataset.tab = tab;
  get("stage").className = tab;
  for (const each of tabs) {
    const chosen = each.id === `tab-${tab}`;
    each.setAttribute("aria-selected", chosen);
    each.tabIndex = chosen ? 0 : -1;
  }
  get("panel").setAttribute("aria-labelledby", `tab-${tab}`);
  for (const each of root.querySelectorAll("[data-for]")) each.hidden = !each.dataset.for.split(" ").includes(tab);
  get("lead").textContent = LEADS[tab];
  get("class-legend").textContent = { complete: "It is to be a …", turn: "Turn it into a …" }[tab] ?? "Digit";
  get("omega-name").textContent = tab === "compare" ? "ω on the right" : "Guidance ω";
  fit();
  empty();
  pad.cover(tab === "complete" ? mask() : null);
  if (tab in drawn) return opened();
  run();
}

/** What the pad held when the tab was left, or for the first time something to begin with. */
function opened() {
  label();
  clearTimeout(waiting);
  if (drawn[tab]) {
    pad.show(drawn[tab].pixels, drawn[tab].given);
    return run();
  }
  pad.draw([]);
  if (tab === "complete") return next_example();
  choose(8);
  fresh();
}

function next_example() {
  const { digit, lines } = EXAMPLES[example++ % EXAMPLES.length];
  pad.draw(lines, true);
  choose(digit);
  run();
}

/** Points on an ellipse, from one angle to another, in degrees clockwise from the right. */
function arc(x, y, width, height, from, to) {
  return Array.from({ length: 33 }, (_, i) => {
    const angle = ((from + ((to - from) * i) / 32) * Math.PI) / 180;
    return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
  });
}

function filled() {
  digits("class", "classes", ["any"]);
  choose(3);
  get("from").innerHTML = [...Array(10).keys()].map((each) => `<option${each === 3 ? " selected" : ""}>${each}</option>`).join("");
  get("omega").value = settings.omega;
  get("omega2").value = 0;
  if (!settings.few) get("method").querySelector("[value=few]").remove();
}

function listening() {
  get("settings").addEventListener("submit", (event) => event.preventDefault());
  get("settings").addEventListener("input", (event) => {
    if (event.target.id === "steps") kept[place()] = steps();
    if (event.target.id === "method") fit();
    if (event.target.id === "from") return fresh();
    if (event.target.name === "half") pad.cover(mask());
    run();
  });
  get("reseed").addEventListener("click", () => {
    get("seed").value = random();
    run();
  });
  get("clear").addEventListener("click", () => {
    pad.draw([]);
    redrawn();
  });
  get("example").addEventListener("click", next_example);
  get("fresh").addEventListener("click", () => fresh(random()));
  get("moment").addEventListener("input", (event) => {
    stop();
    look(event.target.value);
  });
  get("film").addEventListener("click", (event) => {
    if (!task?.shown) return;
    const box = event.target.getBoundingClientRect();
    stop();
    look(task.shown[Math.min(Math.floor(((event.clientX - box.left) / box.width) * task.shown.length), task.shown.length - 1)]);
  });
  get("play").addEventListener("click", play);
  get("save").addEventListener("click", save);
  for (const each of tabs) {
    each.addEventListener("click", () => select(each.id.slice(4)));
    each.addEventListener("keydown", (event) => {
      const turn = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const place = { Home: 0, End: tabs.length - 1 }[event.key] ?? (tabs.indexOf(each) + turn + tabs.length) % tabs.length;
      if (!Number.isInteger(place)) return;
      event.preventDefault();
      tabs[place].focus();
      select(tabs[place].id.slice(4));
    });
  }
}
