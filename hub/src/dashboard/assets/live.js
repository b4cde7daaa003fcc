// Keeps a page current: swaps pushed fragments, says when they are stale, minds focus and edits.
const page = location.pathname + location.search;
const $ = (id) => document.getElementById(id);
const last = new Map(); // fragment id -> html shown
const held = new Map(); // fragment id -> html waiting while someone types, or while paused
let paused = false;
let retry = 0;
let staleSince = null;

// --- moments in the reader's own time zone
const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const clock = (d) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
function age(d) {
  const seconds = Math.max(0, Math.round((Date.now() - d) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}
setInterval(() => paused || localise(document, "[data-shape=age]"), 10_000);

function localise(root, which = "") {
  for (const time of root.querySelectorAll(`time[datetime]${which}`)) {
    const d = new Date(time.dateTime);
    const day = `${d.getDate()} ${MONTHS[d.getMonth()]}`;
    const shapes = { clock: clock(d), exact: `${day} ${clock(d)}`, day: `${day} ${clock(d).slice(0, 5)}`, age: age(d) };
    time.textContent = shapes[time.dataset.shape];
    time.title = d.toLocaleString();
  }
}

// --- fragments
const editing = (element) => {
  const active = document.activeElement;
  return element.contains(active) && active.matches("input, textarea, select");
};

function swap(id, html) {
  const element = $(id);
  if (!element || last.get(id) === html) return;
  if (editing(element) || element.querySelector("[data-dirty]")) {
    held.set(id, html);
    return;
  }
  held.delete(id);
  last.set(id, html);
  const active = document.activeElement;
  const inside = element.contains(active) && active !== document.body;
  const focus = inside ? active.id || active.getAttribute("href") : null;
  const open = [...element.querySelectorAll("details[open][id]")].map((d) => d.id);
  element.innerHTML = html;
  for (const details of open) $(details)?.setAttribute("open", "");
  if (focus) {
    const same = $(focus) || [...element.querySelectorAll("[href]")].find((a) => a.getAttribute("href") === focus);
    (same && !same.disabled ? same : $("main"))?.focus({ preventScroll: true });
  }
  localise(element);
}

function show(fragments) {
  for (const [id, html] of Object.entries(fragments)) paused ? held.set(id, html) : swap(id, html);
}

function release() {
  for (const [id, html] of [...held]) swap(id, html);
}

document.addEventListener("focusout", () => setTimeout(() => paused || release(), 0));
document.addEventListener("input", (event) => {
  if (event.target.closest("[data-live]")) event.target.dataset.dirty = "";
});

// --- milestones are said, nothing else
let milestone = null;
let alerts = null; // those that stand; the first ones are read with the page
function say() {
  const line = $("rollout-line");
  const word = line?.querySelector(".tag")?.lastChild?.textContent?.trim();
  if (word && milestone !== null && word !== milestone) $("said").textContent = `The rollout is now ${word}`;
  if (word) milestone = word;
  const standing = new Map([...document.querySelectorAll("[data-alert]")].map((a) => [a.dataset.alert, a]));
  for (const [key, alert] of standing) {
    if (alerts && !alerts.has(key)) $("said").textContent = alert.querySelector(".sentence").textContent;
  }
  alerts = standing;
}

// --- the socket
function state(word, name) {
  $("link-word").textContent = word;
  $("link-state").dataset.state = name;
}

function fresh() {
  retry = 0;
  staleSince = null;
  $("stale").hidden = true;
  if (!paused) state("live", "on");
}

function lost() {
  staleSince ??= new Date();
  $("stale-since").textContent = clock(staleSince);
  $("stale").hidden = false;
  state("reconnecting", "off");
}

function connect() {
  const url = new URL("/live", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("page", page);
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    fresh();
    let done = false;
    const draw = () => {
      if (done) return;
      done = true;
      show(frame.fragments);
      say();
      socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ ack: frame.seq }));
    };
    requestAnimationFrame(draw);
    setTimeout(draw, 1000); // a page in the background has no animation frames
  };
  socket.onclose = () => {
    lost();
    const wait = Math.min(10_000, 250 * 2 ** retry++) * (0.7 + 0.6 * Math.random());
    setTimeout(again, wait);
  };
}

// After a logout there is nothing to reconnect to: go to the login page instead.
async function again() {
  try {
    const answer = await fetch("/api/v1/overview", { method: "HEAD" });
    if (answer.status === 401) return location.assign(`/login?next=${encodeURIComponent(page)}`);
  } catch {
    // the hub is not there yet
  }
  connect();
}

// --- pause and shortcuts
const pause = $("pause-updates");
pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume updates" : "Pause updates";
  state(paused ? "paused" : "live", paused ? "paused" : "on");
  if (!paused) release();
});

const keys = $("shortcuts");
let shortcuts = localStorage.getItem("shortcuts") !== "off";
const showKeys = () => {
  keys.textContent = shortcuts ? "Shortcuts on" : "Shortcuts off";
  keys.setAttribute("aria-pressed", String(shortcuts));
  document.body.classList.toggle("no-keys", !shortcuts);
};
keys.hidden = false;
keys.addEventListener("click", () => {
  shortcuts = !shortcuts;
  localStorage.setItem("shortcuts", shortcuts ? "on" : "off");
  showKeys();
});
document.addEventListener("keydown", (event) => {
  if (!shortcuts || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select")) return;
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  document.querySelector(`[data-key="${CSS.escape(event.key)}"]:not([disabled])`)?.click();
});

showKeys();
localise(document);
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
say();
connect();
