// Makes this browser's key and asks for it to be listed in the root.
import { ask, forget, keep, kept, listing, make, unable } from "./browser-key.js";

const $ = (id) => document.getElementById(id);
const panel = $("browser-key");
let key;

async function look() {
  key = await kept();
  $("browser-key-form").hidden = Boolean(key);
  $("browser-key-here").hidden = !key;
  if (!key) return;
  $("browser-key-person").textContent = key.person;
  $("browser-key-name").textContent = key.name;
  $("browser-key-id").textContent = key.id;
  const listed = await listing(key);
  const asks = !listed && (await ask("/keys/requests")).items.some((request) => request.id === key.id);
  $("browser-key-state").textContent = listed
    ? `The root lists it as ${listed.status}: it may ${listed.roles.join(", ") || "sign nothing"}.`
    : asks ? "It asks to be listed in the root." : "The root does not list it, and it does not ask to be listed.";
  if (listed) say("");
  $("browser-key-next").hidden = !asks;
  $("browser-key-again").hidden = Boolean(listed) || asks;
  $("browser-key-command").textContent = `bellwether key enroll --request ${key.id} --role approve`;
}

const request = ({ public: half, person, name }) => ask("/keys/requests", { public: half, person, class: "browser", name });
const say = (text) => ($("browser-key-note").textContent = text);
const looked = () => look().catch((problem) => say(problem.message));

async function enrol(event) {
  event.preventDefault();
  const button = $("browser-key-make");
  const fields = new FormData(event.target);
  const [person, name] = [fields.get("person").trim(), fields.get("name").trim()];
  button.disabled = true;
  let said = "";
  let made;
  try {
    await navigator.storage?.persist?.();
    made = await make(person, name);
    await keep(made);
    await request(made);
    said = "The key is made, and asks to be listed.";
  } catch (problem) {
    if (made) await forget(made);
    said = problem.message;
  }
  say(said);
  button.disabled = false;
  await looked();
}

async function begin() {
  const cannot = unable() ?? (panel.dataset.refusal || null);
  say(cannot ?? "");
  if (unable()) return;
  await looked();
  $("browser-key-form").addEventListener("submit", enrol);
  if (panel.dataset.refusal) for (const field of $("browser-key-form").elements) field.disabled = true;
  $("browser-key-forget").addEventListener("click", async () => {
    if (!key || !confirm(`Forget the key of ${key.person}? What it signed stays; it cannot be brought back.`)) return;
    await forget(key);
    await looked();
  });
  $("browser-key-again").addEventListener("click", () => request(key).then(looked, (problem) => say(problem.message)));
  for (const id of ["key-requests", "root-keys"]) {
    new MutationObserver(looked).observe($(id), { childList: true, subtree: true });
  }
}

if (panel) begin();
