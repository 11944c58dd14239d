// The script of the marking page. It keeps marks as course/marking/marks.py says, merges by the same rules, and loads nothing.
"use strict";

const page = JSON.parse(document.getElementById("state").textContent);
const questions = Object.fromEntries(page.sections.map((section) => [section.key, section]));
const ids = new Set(page.sections.flatMap((section) => section.answers.map((answer) => answer.id)));
const STORE = `marks of ${page.marks.report}`;
const BOOKKEEPING = ["by", "at", "revision", "after"];
const ITEM = { text: "string", points: "number", removed: "boolean" };
const ANSWER = { items: "object", comment: "string", shown: "string" };
const MOST = 100; // points of an item, to either side
let marks = page.marks;
let unsaved = false;
let current = null; // the article that the keys speak to

const find = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const say = (text) => { find("#status").textContent = text; };
const shownPoints = (points) => String(Math.round(points * 100) / 100);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children); // texts stay texts
  return node;
}

// Versions.

const random = () => [...crypto.getRandomValues(new Uint8Array(5))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function said(version) {
  const own = Object.keys(version).filter((name) => !BOOKKEEPING.includes(name)).sort();
  return JSON.stringify(own.map((name) => (name === "items" ? [...version.items].sort() : version[name])));
}

function heads(versions) {
  const replaced = new Set(versions.flatMap((version) => version.after));
  const left = new Map(versions.filter((each) => !replaced.has(each.revision)).map((each) => [each.revision, each]));
  return [...left.values()].sort((one, other) => (one.at + "\0" + one.revision < other.at + "\0" + other.revision ? -1 : 1));
}

const differ = (versions) => new Set(versions.map(said)).size > 1;

function mergedTable(one, other) {
  const made = {};
  for (const first of new Set([...Object.keys(one), ...Object.keys(other)])) {
    const [a, b] = [one[first] ?? {}, other[first] ?? {}];
    const seconds = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    made[first] = Object.fromEntries(seconds.map((second) => [second, heads([...(a[second] ?? []), ...(b[second] ?? [])])]));
  }
  return made;
}

function merge(other) {
  marks = { ...marks, rubric: mergedTable(marks.rubric, other.rubric), answers: mergedTable(marks.answers, other.answers) };
}

// A new version in the place of all that stand there.
function replaced(versions, fields) {
  const after = [...new Set(versions.flatMap((each) => [...each.after, each.revision]))].sort();
  return [{ ...fields, by: find("#initials").value.trim(), at: new Date().toISOString().slice(0, 19), revision: random(), after }];
}

const answerOf = (key, id) => marks.answers[id]?.[key] ?? [];
const plainAnswer = (key, id) => answerOf(key, id)[0] ?? { items: [], comment: "" };
const shownOf = (key, id) => questions[key].answers.find((answer) => answer.id === id).shown;
const has = (key, item) => Object.values(marks.answers).filter((row) => row[key]?.some((each) => each.items.includes(item))).length;

function itemsOf(key) {
  return Object.entries(marks.rubric[key] ?? {}).filter(([item, versions]) => !versions[0].removed || has(key, item));
}

function setAnswer(key, id, fields) {
  const { items, comment } = { ...plainAnswer(key, id), ...fields };
  (marks.answers[id] ??= {})[key] = replaced(answerOf(key, id), { items, comment, shown: shownOf(key, id) });
  changed();
}

function setItem(key, item, fields) {
  const versions = marks.rubric[key][item] ?? [];
  const { text, points, removed } = { ...versions[0], ...fields };
  marks.rubric[key][item] = replaced(versions, { text, points, removed });
  changed();
}

// The points of an answer, and why it has none.
function pointsOf(key, id) {
  const versions = answerOf(key, id);
  if (differ(versions)) return [null, "two markers differ"];
  const items = plainAnswer(key, id).items.map((item) => marks.rubric[key][item]);
  if (items.some(differ)) return [null, "markers differ on an item of the rubric"];
  if (versions.length && versions[0].shown !== shownOf(key, id)) return [null, "the answer has changed since it was marked"];
  if (!items.length) return [null, ""];
  const sum = items.reduce((total, each) => total + each[0].points, 0);
  return [Math.min(Math.max(sum, 0), questions[key].out_of), sum < 0 || sum > questions[key].out_of ? `the items give ${shownPoints(sum)}` : ""];
}

// Keeping.

function changed() {
  unsaved = true;
  keep();
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ rubric: marks.rubric, answers: marks.answers, unsaved }));
    say(unsaved ? "Not in a file yet; this browser keeps a copy." : "");
  } catch (error) {
    say("This browser keeps no copy: a closed tab loses your marks. Save them often.");
  }
}

function takeKept(text) {
  try {
    const kept = JSON.parse(text);
    merge(wellBuilt(kept));
    unsaved ||= kept.unsaved === true;
    return true;
  } catch (error) {
    localStorage.setItem(`${STORE}, damaged`, text); // so that the next change does not overwrite it
    return false;
  }
}

function save() {
  const points = {};
  const answers = Object.fromEntries(Object.entries(marks.answers).filter(([id]) => ids.has(id)));
  for (const { key } of page.sections) {
    for (const { id } of questions[key].answers) {
      const [value] = pointsOf(key, id);
      if (value !== null) (points[id] ??= {})[key] = value;
    }
  }
  const text = JSON.stringify({ report: marks.report, points, rubric: marks.rubric, answers }, null, 1) + "\n";
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const name = `marks-${find("#initials").value.trim().replace(/[^A-Za-z0-9_-]/g, "_") || "marker"}.json`;
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  unsaved = false;
  keep();
  say(`Saved as ${name}, where this browser puts downloads. See that it is there.`);
}

// `loaded`, if it is built as marks are; an Error that says what is wrong otherwise.
function wellBuilt(loaded) {
  const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const texts = (list) => Array.isArray(list) && list.every((each) => typeof each === "string");
  const isVersion = (version, fields) => isTable(version) && texts(version.after) && (!("items" in fields) || texts(version.items))
    && [...Object.keys(fields), ...BOOKKEEPING].every((name) => typeof version[name] === (fields[name] ?? (name === "after" ? "object" : "string")));
  const isRow = (row, fields) => isTable(row) && Object.values(row).every((list) => Array.isArray(list) && list.length && list.every((each) => isVersion(each, fields)));
  if (!isTable(loaded) || !isTable(loaded.rubric) || !isTable(loaded.answers)) throw new Error("it holds no marks");
  for (const [key, row] of Object.entries(loaded.rubric)) {
    if (!isRow(row, ITEM) || !Object.keys(row).every((item) => /^[a-z]+-[0-9a-f]+$/.test(item))) throw new Error(`the rubric of ${key} is damaged`);
  }
  for (const [id, row] of Object.entries(loaded.answers)) {
    if (id === "__proto__" || !isRow(row, ANSWER)) throw new Error(`the marks of ${id} are damaged`);
    for (const [key, versions] of Object.entries(row)) {
      const known = loaded.rubric[key] ?? {};
      if (!versions.every((each) => each.items.every((item) => Object.hasOwn(known, item)))) throw new Error(`${id} has an item that the rubric lacks`);
    }
  }
  return loaded;
}

// The same for a file, which has to speak of this class.
function ofThisClass(loaded) {
  wellBuilt(loaded);
  const strange = Object.keys(loaded.answers).find((id) => !ids.has(id));
  if (strange) throw new Error(`${strange} is not on this page; marks.json of a report has names and is not for it: python -m course mark makes the page with it`);
  if (loaded.report !== marks.report) throw new Error("it was saved from the page of another report");
  return loaded;
}

async function load(file) {
  const before = marks;
  try {
    merge(ofThisClass(JSON.parse(await file.text())));
    draw();
    changed();
    const open = page.sections.flatMap(({ key, answers }) => answers.filter(({ id }) => differ(answerOf(key, id)))).length;
    const items = Object.values(marks.rubric).flatMap((row) => Object.values(row).filter(differ)).length;
    const where = [...(open ? [`answers (${open})`] : []), ...(items ? [`items of the rubric (${items})`] : [])].join(" and ");
    say(`${file.name} is taken${where ? `; markers differ on ${where}: see there` : ""}. It is not in a file of yours yet: save.`);
  } catch (error) {
    marks = before;
    draw();
    say(`${file.name} is not taken: ${error.message}.`);
  }
}

// Drawing.

function draw() {
  for (const { key } of page.sections) {
    drawRubric(key);
    drawAnswers(key);
  }
}

function drawAnswers(key) {
  for (const article of all("article", question(key))) drawMarks(key, article);
  drawCounts();
}

function drawCounts() {
  for (const { key, answers } of page.sections) {
    const done = answers.filter(({ id }) => pointsOf(key, id)[0] !== null).length;
    find(`[data-question="${key}"] .count`).textContent = `${done} of ${answers.length}`;
  }
}

const question = (key) => find(`section.question[data-key="${key}"]`);
const byWords = (version) => version.by || "somebody";

function drawMarks(key, article) {
  const { id } = article.dataset;
  const answer = plainAnswer(key, id);
  const [points, why] = pointsOf(key, id);
  const total = `${points === null ? "…" : shownPoints(points)} / ${shownPoints(questions[key].out_of)}`;
  const items = itemsOf(key).map(([item, versions], place) => {
    const box = make("input", { type: "checkbox", checked: answer.items.includes(item), value: item });
    const number = make("span", { className: "quiet", ariaHidden: "true" }, place < 10 ? String((place + 1) % 10) : "");
    return make("label", { className: "item" }, box, number, make("span", {}, versions[0].text), make("span", { className: "points" }, shownPoints(versions[0].points)));
  });
  const comment = make("textarea", { defaultValue: answer.comment, maxLength: 5000, rows: 2 });
  const versions = answerOf(key, id);
  const notes = why ? [make("div", { className: "differ" }, `${why[0].toUpperCase()}${why.slice(1)}.`, ...choices(key, id, versions))] : [];
  const by = versions.length && !differ(versions) && versions[0].by ? [make("span", { className: "quiet" }, ` by ${versions[0].by}`)] : [];
  find("fieldset", article).replaceChildren(make("legend", {}, `Marks: ${total}`, ...by), ...notes, ...items,
    make("label", { className: "comment" }, "Comment for the student", comment));
}

// What a person can decide on where versions differ, or where the answer has changed.
function choices(key, id, versions) {
  const stale = versions.length && !differ(versions) && versions[0].shown !== shownOf(key, id);
  if (!differ(versions) && !stale) return [];
  return (stale ? versions.slice(0, 1) : versions).map((version) => {
    const items = version.items.map((item) => marks.rubric[key][item][0]);
    const words = items.map((item) => `${shownPoints(item.points)} for “${item.text}”`).join(" + ") || "no item";
    const keepIt = make("button", { type: "button" }, stale ? "Still right" : `Take that of ${byWords(version)}`);
    keepIt.addEventListener("click", () => {
      setAnswer(key, id, { items: version.items, comment: version.comment });
      drawAnswers(key);
      current?.focus({ preventScroll: true });
    });
    return make("div", {}, `${byWords(version)}: ${words}${version.comment ? `, “${version.comment}”` : ""} `, keepIt);
  });
}

function drawRubric(key) {
  const rows = itemsOf(key).map(([item, versions], place) => {
    const row = make("div", { className: "row" });
    row.dataset.item = item;
    const name = `Item ${place + 1}`;
    const points = make("input", { type: "number", step: "0.25", min: -MOST, max: MOST, value: versions[0].points, ariaLabel: `${name}, points` });
    const text = make("input", { type: "text", maxLength: 500, value: versions[0].text, ariaLabel: `${name}, text` });
    points.dataset.field = "points";
    text.dataset.field = "text";
    const used = has(key, item);
    row.append(make("span", { className: "quiet" }, String(place + 1)), points, text, make("span", { className: "quiet" }, `${used} answer${used === 1 ? "" : "s"}`));
    if (!used) row.append(make("button", { type: "button", className: "remove", ariaLabel: `Remove item ${place + 1}` }, "Remove"));
    if (differ(versions)) row.append(make("div", { className: "differ" }, "Markers differ: ", ...versions.map((version) => takeItem(key, item, version))));
    return row;
  });
  const add = make("button", { type: "button", className: "add" }, "Add an item");
  find(".rows", question(key)).replaceChildren(...rows, add);
}

function takeItem(key, item, version) {
  const button = make("button", { type: "button" }, `${byWords(version)}: ${shownPoints(version.points)} for “${version.text}”`);
  button.addEventListener("click", () => {
    setItem(key, item, { text: version.text, points: version.points, removed: version.removed });
    drawRubric(key);
    drawAnswers(key);
  });
  return button;
}

// What people do.

function toggle(article, item) {
  const key = keyOf(article);
  const { items } = plainAnswer(key, article.dataset.id);
  setAnswer(key, article.dataset.id, { items: items.includes(item) ? items.filter((each) => each !== item) : [...items, item] });
  const focused = document.activeElement?.value === item && article.contains(document.activeElement);
  drawMarks(key, article);
  drawRubric(key);
  drawCounts();
  if (focused) find(`input[value="${item}"]`, article).focus();
}

const keyOf = (node) => node.closest("section.question").dataset.key;
const shownQuestion = () => find("section.question:not([hidden])");

function ask(key) {
  for (const section of all("section.question")) section.hidden = section.dataset.key !== key;
  for (const button of all("[data-question]")) button.setAttribute("aria-current", String(button.dataset.question === key));
  scrollTo(0, 0);
  setCurrent(null);
}

function setCurrent(article) {
  current?.classList.remove("current");
  current = article;
  current?.classList.add("current");
}

function go(article) {
  if (!article) return;
  setCurrent(article); // also where it has the focus already
  article.focus({ preventScroll: true });
  const show = () => article === current && article.scrollIntoView({ block: "start" });
  show();
  requestAnimationFrame(() => requestAnimationFrame(show)); // the answers above, once shown, are not as tall as was reckoned
}

function step(by) {
  const articles = all("article", shownQuestion());
  const place = current ? articles.indexOf(current) + by : 0;
  if (place >= articles.length) say("That was the last answer to this question; ] is the next question.");
  go(articles[Math.max(0, Math.min(place, articles.length - 1))]);
}

function nextUnmarked() {
  const articles = all("article", shownQuestion());
  const from = current ? articles.indexOf(current) + 1 : 0;
  const order = [...articles.slice(from), ...articles.slice(0, from)];
  const found = order.find((article) => pointsOf(keyOf(article), article.dataset.id)[0] === null);
  if (found) go(found);
  else say("All answers to this question are marked.");
}

function stepQuestion(by) {
  const keys = page.sections.map((section) => section.key);
  ask(keys[(keys.indexOf(shownQuestion().dataset.key) + by + keys.length) % keys.length]);
  step(0);
}

function openRubric() {
  const rubric = find("details.rubric", shownQuestion());
  rubric.open = true;
  rubric.scrollIntoView({ block: "center" });
  find("input", rubric)?.focus({ preventScroll: true });
}

const KEYS = {
  j: () => step(1), k: () => step(-1), u: nextUnmarked, s: save, r: openRubric, "[": () => stepQuestion(-1), "]": () => stepQuestion(1),
  c: () => current && find("textarea", current).focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !shownQuestion()) return;
  const typing = event.target.matches("textarea, input:not([type=checkbox], [type=file])");
  const leaves = event.key === "Escape" || (event.key === "Enter" && event.target.id === "initials");
  if (leaves && (typing || event.target.closest("details.rubric"))) {
    event.target.blur(); // which writes what was typed
    go(current ?? find("article", shownQuestion()));
  } else if (!typing && find("#keys").checked) {
    const item = /^[0-9]$/.test(event.key) && current && itemsOf(keyOf(current))[(Number(event.key) + 9) % 10];
    if (item) toggle(current, item[0]);
    else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
    else return;
    event.preventDefault();
  }
});

document.addEventListener("focusin", (event) => {
  const article = event.target.closest("article");
  if (article) setCurrent(article);
});

document.addEventListener("change", (event) => {
  const { target } = event;
  const article = target.closest("article");
  const row = target.closest(".row");
  if (article && target.type === "checkbox") toggle(article, target.value);
  else if (article && target.matches("textarea")) writeComment(target);
  else if (row && target.dataset.field) writeItem(row, target);
  else if (target.id === "load" && target.files.length) load(target.files[0]).finally(() => { target.value = ""; });
  else if (target.id === "initials") try { localStorage.setItem("initials of the marker", target.value); } catch (error) { /* said by keep */ }
});

function writeComment(area) {
  if (!area.isConnected) return; // it has been drawn anew, after what was in it had been written
  const article = area.closest("article");
  const key = keyOf(article);
  if (area.value === area.defaultValue) return; // nothing typed: another tab may have written something newer
  setAnswer(key, article.dataset.id, { comment: area.value });
  area.defaultValue = area.value;
  drawCounts();
}

function writeItem(row, input) {
  const key = keyOf(row);
  const value = input.dataset.field === "points" ? Number(input.value) : input.value.trim();
  if (input.value.trim() === "" || (input.dataset.field === "points" && !(Math.abs(value) <= MOST))) {
    say(`An item has a text, and points from -${MOST} to ${MOST}; this one stays as it was.`);
    drawRubric(key);
    return;
  }
  setItem(key, row.dataset.item, { [input.dataset.field]: value });
  drawAnswers(key);
}

document.addEventListener("click", (event) => {
  const { target } = event;
  const key = target.closest("section.question")?.dataset.key;
  if (target.closest("[data-question]")) ask(target.closest("[data-question]").dataset.question);
  else if (target.id === "save") save();
  else if (target.id === "forget") forget();
  else if (target.matches(".add")) add(key);
  else if (target.matches(".remove")) {
    setItem(key, target.closest(".row").dataset.item, { removed: true });
    drawRubric(key);
    drawAnswers(key);
    find(".add", question(key)).focus();
  }
});

function add(key) {
  const item = `item-${random()}`;
  marks.rubric[key] ??= {};
  setItem(key, item, { text: "New item", points: 0, removed: false });
  drawRubric(key);
  drawAnswers(key);
  find(`[data-item="${item}"] input`).select();
}

function forget() {
  try { localStorage.removeItem(STORE); } catch (error) { /* there is none */ }
  say("This browser's copy is removed; the next change makes a new one.");
}

let typed;
document.addEventListener("input", (event) => { // a comment is kept while it is written, too
  clearTimeout(typed);
  if (event.target.matches("article textarea")) typed = setTimeout(() => writeComment(event.target), 1000);
});
addEventListener("pagehide", () => document.activeElement?.matches("article textarea") && writeComment(document.activeElement));
addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
addEventListener("storage", (event) => { // another tab has changed something
  if (event.key !== STORE || !event.newValue || !takeKept(event.newValue)) return;
  const typing = document.activeElement?.matches("article textarea, .rubric input") && document.activeElement;
  if (typing) typing.addEventListener("blur", () => setTimeout(draw), { once: true }); // what is typed, and the focus, stay
  else draw();
});

new ResizeObserver(() => { // what is scrolled to stands below the bar, however many lines it has
  document.documentElement.style.setProperty("--bar", `${find(".bar").offsetHeight}px`);
}).observe(find(".bar"));

try {
  find("#initials").value = localStorage.getItem("initials of the marker") ?? "";
  const kept = localStorage.getItem(STORE);
  if (kept && !takeKept(kept)) say("The copy that this browser kept cannot be read; it is put aside, and this page begins with the marks of the report.");
  else if (unsaved) say("Marks from an earlier visit are here that are not in a file yet.");
} catch (error) {
  say("This browser keeps no copy: a closed tab loses your marks. Save them often.");
}
draw();
if (page.sections.length) find(`[data-question="${page.sections[0].key}"]`).setAttribute("aria-current", "true");
