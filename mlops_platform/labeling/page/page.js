// The labeling page. A label counts when the server has said that it is kept, and never before.
"use strict";

const REASONS = {
  uncertain: "Here because the model is unsure of it.",
  diverse: "Here because it is unlike the others.",
  random: "Here by chance, for an honest sample.",
  suspect: "Here because the label it has looks wrong.",
};
const token = location.hash.slice(1);
const $ = (id) => document.getElementById(id);

let queue = null; // what the server told
let labels = new Map(); // id to the tag that is kept
let history = []; // {id, tag, before}, oldest first
let skipped = new Set();
let at = 0; // the row that is shown; rows.length for the end
let saving = false;
let again = null; // what to try again
let shown = null; // the row whose texts are on the page

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: { "X-Label-Token": token, "Content-Type": "application/json" },
      body: body,
    });
  } catch {
    throw new Error("`mlops label` does not answer; is it still running?");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail || `The server answered with ${answer.status}.`);
  return told;
}

async function load() {
  try {
    queue = await ask("api/queue");
  } catch (error) {
    complain(error.message, load);
    return;
  }
  calm();
  labels = new Map(Object.entries(queue.labels));
  history = queue.history;
  at = nextOpen(0);
  $("person").textContent = `as ${queue.person}`;
  show();
}

function nextOpen(from) {
  const open = (row) => !labels.has(row.id) && !skipped.has(row.id);
  const rows = queue.rows;
  for (let i = from; i < rows.length; i++) if (open(rows[i])) return i;
  for (let i = 0; i < from && i < rows.length; i++) if (open(rows[i])) return i;
  return rows.length;
}

// ids go as the digits they came as: a number of JavaScript may not hold them
async function save(id, tag, source) {
  if (saving) return false;
  saving = true;
  show();
  try {
    await ask("api/labels", `{"id": ${id}, "tag": ${JSON.stringify(tag)}, "source": "${source}"}`);
    if (tag) labels.set(id, tag);
    else labels.delete(id);
    calm();
    return true;
  } catch (error) {
    complain(`Not saved: ${error.message}`, source === "page" ? () => give(tag, id) : undo);
    return false;
  } finally {
    saving = false;
    show();
  }
}

async function give(tag, id) {
  const row = id === undefined ? queue.rows[at] : queue.rows.find((each) => each.id === id);
  if (!row || saving) return;
  const before = labels.get(row.id) || "";
  if (!(await save(row.id, tag, "page"))) return;
  history.push({ id: row.id, tag: tag, before: before });
  skipped.delete(row.id);
  at = nextOpen(queue.rows.indexOf(row) + 1);
  show();
}

async function undo() {
  const last = history[history.length - 1];
  if (!last || saving) return;
  if (!(await save(last.id, last.before, "page-undo"))) return;
  history.pop();
  at = queue.rows.findIndex((row) => row.id === last.id);
  show();
}

function skip() {
  if (saving || at >= queue.rows.length) return;
  if (!labels.has(queue.rows[at].id)) skipped.add(queue.rows[at].id);
  at = nextOpen(at + 1);
  calm();
  show();
}

function move(step) {
  if (saving) return;
  at = Math.max(0, Math.min(queue.rows.length, at + step));
  calm();
  show();
}

function complain(text, retry) {
  again = retry;
  $("error-text").textContent = text;
  $("error").hidden = false;
}

function calm() {
  again = null;
  $("error").hidden = true;
}

function make(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.textContent = text; // never as HTML: the texts are other people's
  return made;
}

function show() {
  if (!queue) return;
  const rows = queue.rows;
  const row = rows[at];
  $("count").textContent = rows.length ? `${labels.size} of ${rows.length} labeled` : "Nothing to label";
  $("progress").max = rows.length || 1;
  $("progress").value = labels.size;
  $("footer").hidden = !rows.length;
  $("work").hidden = !row;
  $("done").hidden = Boolean(row);
  $("undo").disabled = saving || !history.length;
  $("back").disabled = saving || at === 0;
  $("forward").disabled = saving || at >= rows.length;
  $("skip").disabled = saving || !row;
  if (row) showRow(row);
  else showDone();
}

function showRow(row) {
  const mine = labels.get(row.id);
  $("reason").textContent = REASONS[row.reason] || "";
  $("mine").textContent = mine ? `You said: ${mine}.` : skipped.has(row.id) ? "You skipped it." : "";
  $("title").textContent = row.title || "Without a title";
  $("title").classList.toggle("empty", !row.title);
  $("description").textContent = row.description || "";
  if (shown !== row) for (const id of ["title", "description"]) $(id).scrollTop = 0;
  if (shown !== row) scrollTo(0, 0);
  shown = row;
  $("guess-name").textContent = row.given ? "The model suggests" : "The model's guess:";
  $("guess").textContent = row.guess;
  $("probability").textContent = `${Math.round(row.probability * 100)}%`;
  $("given-line").hidden = !row.given;
  $("given").textContent = row.given || "";
  const buttons = queue.classes.map(({ tag, count }, number) => {
    const button = make("button", "", "");
    button.type = "button";
    button.dataset.tag = tag;
    button.title = `${count} projects have it`;
    button.disabled = saving;
    if (number < 9) button.append(make("kbd", "", String(number + 1)));
    button.append(make("span", "name", tag));
    const hints = [];
    if (tag === row.given) hints.push("has it");
    if (tag === row.guess) hints.push("Enter ⏎");
    if (hints.length) button.append(make("span", "hint", hints.join(" · ")));
    button.classList.toggle("guessed", tag === row.guess);
    button.classList.toggle("chosen", tag === mine);
    button.setAttribute("aria-pressed", String(tag === mine));
    button.addEventListener("click", () => give(tag));
    return button;
  });
  $("tags").replaceChildren(...buttons);
  $("near").hidden = !row.neighbours.length;
  $("neighbours").replaceChildren(
    ...row.neighbours.map((near) => {
      const item = make("li", "", near.title || "Without a title");
      item.dir = "auto";
      item.append(make("span", "tag", near.tag));
      return item;
    }),
  );
}

function showDone() {
  const total = queue.rows.length;
  const left = queue.rows.filter((row) => !labels.has(row.id)).length;
  $("done-title").textContent = !total ? "The queue is empty" : left ? "That was the last one" : "All done. Thank you!";
  $("done-text").textContent = !total
    ? "There is nothing that is worth a label now."
    : `You labeled ${labels.size} of ${total}` + (left ? `, and ${left} are left.` : ".");
  $("look").hidden = !left;
}

function lookAtSkipped() {
  skipped = new Set();
  at = nextOpen(0);
  show();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
  if ($("help").open) {
    if (event.key === "?") $("help").close();
    return;
  }
  if (event.key === "?") return void $("help").showModal();
  if (!queue) return;
  const row = queue.rows[at];
  if (/^[1-9]$/.test(event.key)) {
    const chosen = queue.classes[Number(event.key) - 1];
    if (row && chosen) give(chosen.tag);
  } else if (event.key === "Enter") {
    if (document.activeElement instanceof HTMLButtonElement) return; // that button is meant
    if (row && queue.classes.some(({ tag }) => tag === row.guess)) give(row.guess);
  } else if (event.key === "s") skip();
  else if (event.key === "u") undo();
  else if (event.key === "ArrowLeft") move(-1);
  else if (event.key === "ArrowRight") move(1);
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", press);
$("back").addEventListener("click", () => move(-1));
$("forward").addEventListener("click", () => move(1));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
$("look").addEventListener("click", lookAtSkipped);
$("retry").addEventListener("click", () => again && again());
$("help-button").addEventListener("click", () => $("help").showModal());
$("close").addEventListener("click", () => $("help").close());
// a button that was clicked must not take the next Enter, which accepts the guess
document.addEventListener("click", (event) => event.detail && document.activeElement?.blur());
load();
