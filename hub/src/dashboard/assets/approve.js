// Signs a release, after checking that its bytes are those whose digest the page shows.
import { sign } from "./browser-key.js";
import { begin, fleetOf, idOf, path, releaseBody, send } from "./signing.js";
import { RELEASE, hex, message, sha256, statement, unhex } from "./statement.js";

begin("sign", "approve", {
  refused(key, facts) {
    if (facts.publisher === key.person) return `${key.person} published ${facts.version}; approval takes other persons.`;
    return JSON.parse(facts.signed).includes(key.person) ? `${key.person} has signed it already.` : null;
  },
  async sign(key, panel) {
    const body = await releaseBody(panel);
    if (hex(await sha256(body)) !== panel.dataset.digest) {
      throw new Error("The hub gave other bytes than those whose digest this page shows. Do not sign.");
    }
    const fleet = await fleetOf(key);
    if (fleet !== panel.dataset.fleet) throw new Error("The hub's root is of another fleet than this page shows. Do not sign.");
    const signature = await sign(key, message(RELEASE, unhex(fleet), body));
    await send(key, fleet, `${path(panel)}/signatures`, statement(body, idOf(key), signature));
  },
});
