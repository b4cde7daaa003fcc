// The form that signs with the key of this browser: why it cannot, the version typed, what came of it.
import { ask, keep, kept, refusal, unable } from "./browser-key.js";
import { base64, bodyOf, hex, releaseOf, sha256, unbase64, unhex } from "./statement.js";

export const path = (panel) => `/models/${encodeURIComponent(panel.dataset.model)}/versions/${panel.dataset.version}`;

// The release's body as the hub has it now, if it is of the model and version that the page shows.
export async function releaseBody(panel) {
  const { model, version } = panel.dataset;
  const body = bodyOf(unbase64((await ask(`${path(panel)}/release`)).statement));
  const said = releaseOf(body);
  if (said.model !== model || String(said.version) !== version) {
    throw new Error(`The bytes are a release of ${said.model}:${said.version}, not of ${model}:${version}. Do not sign.`);
  }
  return body;
}

// The fleet of the hub's root, if the key signed for no other before.
export async function fleetOf(key) {
  const first = bodyOf(unbase64((await ask("/root")).statement));
  const fleet = hex((await sha256(first)).slice(0, 16));
  if (key.fleet && key.fleet !== fleet) {
    throw new Error(`This browser's key signed for the fleet ${key.fleet} before, and this is ${fleet}. Do not sign.`);
  }
  return fleet;
}

// Posts a statement and remembers for which fleet this key signs.
export async function send(key, fleet, to, statement) {
  await ask(to, { statement: base64(statement) });
  await keep(Object.assign(key, { fleet }));
}

export const idOf = (key) => unhex(key.id);

// Brings the form of `name` to life: `refused` says why this key cannot, `sign` does it.
export async function begin(name, role, { refused, sign }) {
  const $ = (part) => document.getElementById(`${name}-${part}`);
  const panel = $("panel");
  const facts = () => panel.querySelector("[data-facts]").dataset;
  let key;
  let busy = false;

  async function obstacle() {
    if (panel.dataset.refusal) return panel.dataset.refusal;
    if (facts().obstacle) return facts().obstacle;
    if (!key) return "This browser has no key yet: make one on the page Keys.";
    return (await refusal(key, role, panel.dataset.model)) ?? refused(key, facts());
  }

  async function look() {
    if (busy) return;
    const why = await obstacle().catch((problem) => problem.message);
    const right = $("typed").value.trim() === panel.dataset.version;
    $("typed").disabled = why !== null;
    $("now").disabled = why !== null || !right;
    $("key").textContent = key ? `Signs as ${key.person} with the key ${key.id} of this browser.` : "";
    $("why").textContent = why ?? (right ? "" : `Type ${panel.dataset.version} to confirm.`);
  }

  async function submit(event) {
    event.preventDefault();
    if ($("now").disabled) return;
    busy = true;
    $("now").disabled = true;
    $("why").textContent = "Signing…";
    let said = `Signed as ${key.person}.`;
    try {
      await sign(key, panel, facts());
      $("typed").value = "";
    } catch (problem) {
      said = problem.message;
    }
    busy = false;
    $("done").textContent = said;
    await look();
  }

  const cannot = panel && unable();
  if (panel) $("unable").textContent = cannot ?? "";
  if (!panel || cannot) return;
  key = await kept();
  $("form").hidden = false;
  $("form").addEventListener("submit", submit);
  $("typed").addEventListener("input", look);
  // The facts come with the page and change with it.
  new MutationObserver(look).observe($("facts"), { childList: true, subtree: true });
  await look();
}
