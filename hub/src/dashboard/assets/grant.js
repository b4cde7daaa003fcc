// Signs the grant of the stage that waits for one: the release's digest, and how far it may go.
import { sign } from "./browser-key.js";
import { begin, fleetOf, idOf, path, releaseBody, send } from "./signing.js";
import { GRANT, grantBody, message, sha256, statement, unhex } from "./statement.js";

begin("grant", "grant", {
  refused: () => null,
  async sign(key, panel, facts) {
    const body = grantBody(await sha256(await releaseBody(panel)), Number(facts.buckets));
    const fleet = await fleetOf(key);
    const signature = await sign(key, message(GRANT, unhex(fleet), body));
    await send(key, fleet, `${path(panel)}/grants`, statement(body, idOf(key), signature));
  },
});
