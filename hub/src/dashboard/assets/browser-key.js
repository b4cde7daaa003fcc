// The signing key of this browser: made here, kept in IndexedDB, never to be taken out.
import { hex, sha256 } from "./statement.js";

const ED25519 = { name: "Ed25519" };

// Why this page cannot sign at all, if so.
export function unable() {
  if (!window.isSecureContext) {
    return `This address (${location.origin}) is not a secure one, so the browser lends this page no keys. Sign in a terminal, or reach the hub by https or as localhost.`;
  }
  return window.indexedDB && window.crypto?.subtle ? null : "This browser keeps no keys. Sign in a terminal.";
}

function settled(request) {
  return new Promise((done, fail) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
}

async function store(mode) {
  const opening = indexedDB.open("bellwether", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys", { keyPath: "id" });
  return (await settled(opening)).transaction("keys", mode).objectStore("keys");
}

// The key kept here, or undefined.
export async function kept() {
  return (await settled((await store("readonly")).getAll()))[0];
}

export async function keep(key) {
  await settled((await store("readwrite")).put(key));
}

export async function forget(key) {
  await settled((await store("readwrite")).delete(key.id));
}

// A new key: the private half cannot be exported, by us or anybody.
export async function make(person, name) {
  const pair = await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]);
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const id = hex((await sha256(raw)).slice(0, 16));
  return { id, public: hex(raw), person, name, pair, fleet: null };
}

// Signs, and checks the signature before anybody gets it.
export async function sign(key, bytes) {
  const signature = await crypto.subtle.sign(ED25519, key.pair.privateKey, bytes);
  if (!(await crypto.subtle.verify(ED25519, key.pair.publicKey, signature, bytes))) {
    throw new Error("the browser made a signature that does not hold");
  }
  return new Uint8Array(signature);
}

// One call of the API; a refusal throws what it says.
export async function ask(path, body) {
  const request = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(`/api/v1${path}`, request || {});
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error([said.detail, said.hint].filter(Boolean).join(" · ")), { code: said.code });
  return said;
}

// What the root says of this key, if it lists it.
export async function listing(key) {
  try {
    return (await ask("/root/keys")).keys.find((entry) => entry.public === key.public);
  } catch (problem) {
    if (problem.code === "no_root") return undefined;
    throw problem;
  }
}

// Why the root lets this key not do what needs `role` for `model`; null if it does.
export async function refusal(key, role, model) {
  const listed = await listing(key);
  const whose = `The key of ${key.person} in this browser`;
  if (!listed) return `${whose} is not listed in the root yet: bellwether key enroll --request ${key.id} --role ${role}`;
  if (listed.status !== "active") return `${whose} is ${listed.status}: the root lets it sign no more.`;
  if (!listed.roles.includes(role)) return `${whose} may not ${role}; the root gives it: ${listed.roles.join(", ") || "nothing"}.`;
  if (!model.startsWith(listed.prefix)) return `${whose} is for models that begin with ${listed.prefix}.`;
  key.person = listed.person; // the root's word counts
  return null;
}
