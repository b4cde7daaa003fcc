// Signed statements by hand: read and written as protocol/README.md says ("The wire on a page").
const FORMAT = 1;
const PREFIX = [0x42, 0x57, 0x4c, 0x31, 0x00]; // "BWL1" 0
export const RELEASE = 2;
export const GRANT = 3;

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
export const unbase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

// Reads postcard: numbers in groups of seven bits, the least first; texts and bytes after their length.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    if (this.take(1)[0] !== FORMAT) throw new Error("the statement has a format this page does not know");
  }
  take(length) {
    if (this.at + length > this.bytes.length) throw new Error("the statement is cut short");
    return this.bytes.slice(this.at, (this.at += length));
  }
  number() {
    for (let value = 0, place = 1, read = 0; read < 5; read += 1, place *= 128) {
      const [byte] = this.take(1);
      value += (byte & 127) * place;
      if (byte < 128) return value;
    }
    throw new Error("the statement holds a number that is too long");
  }
  text() {
    return new TextDecoder("utf-8", { fatal: true }).decode(this.take(this.number()));
  }
}

// The body of a signed statement: the exact bytes that are signed.
export function bodyOf(frame) {
  const reader = new Reader(frame);
  return reader.take(reader.number());
}

// What a release's body says it is for.
export function releaseOf(body) {
  const reader = new Reader(body);
  const [kind, model, version] = [reader.number(), reader.text(), reader.number()];
  return { kind, model, version };
}

function number(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

// "BWL1" 0 type fleet body
export const message = (type, fleet, body) => Uint8Array.from([...PREFIX, type, ...fleet, ...body]);

const ONE_WITH_TAG = 0x11; // one signature, beside which the first two bytes of the key's id stand

// The statement as the hub takes it, with one signature.
export function statement(body, key, signature) {
  return Uint8Array.from([FORMAT, ...number(body.length), ...body, ONE_WITH_TAG, ...key.slice(0, 2), ...signature]);
}

// The body of a grant that reaches the buckets below `buckets` of 1000.
export function grantBody(release, buckets) {
  const nobodysGate = new Array(32).fill(0);
  return Uint8Array.from([FORMAT, ...release, 0, ...number(buckets), ...nobodysGate, 0, 0]);
}
