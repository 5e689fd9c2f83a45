// The labelling page: one picture, one key, the next picture.
import { Queue } from "./label_queue.js";
import { Saver } from "./label_saver.js";

const root = document.getElementById("labelling");
const { collection } = root.dataset;
const classes = JSON.parse(root.dataset.classes);
const at = (id) => document.getElementById(id);
const whoDialog = at("who");

const state = { current: null, done: [], mine: 0, times: [], waits: [], busy: false };
let queue;
let saver;

const KEYS = new Map([["a", 0], ["ArrowRight", 0], ["u", "unsure"], [" ", "skip"], ["Backspace", "undo"], ["z", "undo"]]);
classes.forEach((_, i) => i < 9 && KEYS.set(String(i + 1), i));
if (classes.length === 2) ["x", "ArrowLeft"].forEach((key) => KEYS.set(key, 1));

function say(text, kind = "") {
  at("said").textContent = text;
  at("said").className = kind;
}

function showStats() {
  at("mine").textContent = state.mine.toLocaleString("en");
  at("bar").value = state.mine;
  const recent = state.times.filter((t) => t > performance.now() - 300_000);
  const hours = recent.length > 4 ? (performance.now() - recent[0]) / 3_600_000 : 0;
  at("speed").textContent = hours ? Math.round((recent.length - 1) / hours).toLocaleString("en") : "–";
  const waits = [...state.waits].sort((a, b) => a - b);
  at("wait").textContent = waits.length > 4 ? `${Math.round(waits[Math.ceil(waits.length * 0.95) - 1])} ms` : "–";
  at("undo").disabled = !state.done.length;
}

function showSaving() {
  at("saving").textContent = saver.away ? `${saver.pending} not saved yet: the server is away, trying again` : saver.pending ? "Saving…" : "All saved";
  at("saving").classList.toggle("away", saver.away);
}

function frame(...children) {
  at("frame").replaceChildren(...children);
}

function note(title, text, button) {
  const box = document.createElement("div");
  box.className = "note";
  const [h, p] = [document.createElement("h2"), document.createElement("p")];
  h.textContent = title;
  p.textContent = text;
  box.append(h, p, ...(button ? [button] : []));
  return box;
}

function allSeen() {
  const again = document.createElement("button");
  again.className = "button";
  again.textContent = "Look again";
  again.addEventListener("click", () => (queue.restart(), advance()));
  const everything = state.mine >= Number(at("bar").max);
  frame(note(everything ? "All labelled" : "No more images", everything ? "You have judged every image with people." : "Skipped ones and new ones come when you look again.", again));
}

async function advance(since) {
  let item;
  try {
    item = await queue.next();
  } catch (error) {
    frame(note("The images cannot be loaded", `${error.message}. Reload the page to try again.`));
    return;
  }
  state.current = item;
  document.body.classList.toggle("nothing", !item);
  if (!item) return allSeen();
  await show(item);
  if (since !== undefined) requestAnimationFrame(() => {
    state.waits = [...state.waits.slice(-199), performance.now() - since];
    showStats();
  });
}

async function show(item) {
  root.dataset.image = item.image;
  at("details").href = `/c/${collection}/images/${item.image}`;
  await item.ready;
  if (state.current !== item) return;
  frame(item.img.naturalWidth ? item.img : note("No picture", "This image cannot be shown. Skip it, or look at its page."));
}

function mark(choice) {
  const box = at("frame");
  box.dataset.chosen = typeof choice === "number" ? String(Math.min(choice, 1)) : choice;
  box.classList.remove("flash");
  void box.offsetWidth; // starts the animation anew
  box.classList.add("flash");
}

async function choose(choice, since) {
  if (state.busy) return;
  if (choice === "undo") return undo();
  const item = state.current;
  if (!item) return;
  state.busy = true;
  mark(choice);
  state.done.push({ image: item.image, skipped: choice === "skip" });
  if (choice !== "skip") {
    const label = choice === "unsure" ? "" : classes[choice];
    saver.put(item.image, label, choice === "unsure");
    state.mine += 1;
    state.times.push(since);
    say(label || "unsure");
  } else {
    say("skipped");
  }
  try {
    await advance(since);
  } finally {
    state.busy = false;
    showStats();
  }
}

async function undo() {
  const last = state.done.pop();
  if (!last) return say("Nothing to undo");
  if (!last.skipped) {
    saver.put(last.image, "");
    state.mine -= 1;
    state.times.pop();
  }
  if (state.current) queue.back(state.current);
  document.body.classList.remove("nothing");
  state.current = queue.picture(last.image);
  queue.seen.add(last.image);
  say("Taken back");
  await show(state.current);
  showStats();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || whoDialog.open || event.target.closest("input, textarea, select, summary")) return;
  const choice = KEYS.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (choice === undefined) return;
  event.preventDefault();
  void choose(choice, performance.now());
}

async function begin(labeller) {
  at("name").textContent = labeller;
  queue = new Queue(collection, labeller);
  saver = new Saver(collection, labeller, {
    changed: showSaving,
    refused: (image, why) => say(`Not saved: ${why}`, "error"),
  });
  try {
    const [answer] = await Promise.all([fetch(`/api/c/${collection}/history?${new URLSearchParams({ labeller })}`), queue.fill()]);
    state.done = (await answer.json()).labels.reverse().map(({ image }) => ({ image, skipped: false }));
  } catch (error) {
    frame(note("The images cannot be loaded", `${error.message}. Reload the page to try again.`));
    return;
  }
  Object.assign(state, { mine: queue.progress.mine, times: [], waits: [] });
  at("total").textContent = queue.progress.total.toLocaleString("en");
  at("bar").max = Math.max(1, queue.progress.total);
  showStats();
  await advance();
  root.dataset.ready = "";
}

function ask() {
  at("labeller").value = localStorage.getItem("cosmop.labeller") ?? "";
  whoDialog.showModal();
}

at("who-form").addEventListener("submit", () => {
  const name = at("labeller").value.trim();
  localStorage.setItem("cosmop.labeller", name);
  void begin(name);
});
whoDialog.addEventListener("cancel", (event) => queue ?? event.preventDefault());
at("change").addEventListener("click", ask);
document.querySelectorAll("[data-choice]").forEach((button) => {
  const choice = button.dataset.choice;
  button.addEventListener("click", () => (button.blur(), choose(/^\d+$/.test(choice) ? Number(choice) : choice, performance.now())));
});
document.addEventListener("keydown", onKey);
window.addEventListener("beforeunload", (event) => saver?.pending && event.preventDefault());

const known = localStorage.getItem("cosmop.labeller");
if (known) void begin(known);
else ask();
