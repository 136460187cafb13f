// npm run swap-safety for some seconds: every answer is that of a version which its name meant, while versions come,
// move and go and memory has room for few of them; and the test itself sees it where that is not so.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HttpClient } from "../../load-tests/load/http-client.ts";
import { SoloAnswers } from "../../load-tests/swap-safety/answers.ts";
import { makeContents } from "../../load-tests/swap-safety/contents.ts";
import { complaints, runSwapSafety } from "../../load-tests/swap-safety/run.ts";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { startTiny } from "./start-tiny.ts";

const slots = 2;
const contents = makeContents(12);

test("every answer is its solo run's while adapters change under load", async () => {
  const solos = await collectSolos();
  const setting = { slots, clients: 8, churners: 3, seed: 1, contents, solos };
  const scheduling = { ...defaultScheduling, deviceSlots: slots };
  await using server = await startTiny({ scheduling, hostCacheBytes: 8_000_000 });
  const report = await runSwapSafety({ ...setting, url: server.url, seconds: 10 });
  assert.deepEqual(complaints(report), [], JSON.stringify(report));

  // Where each upload has another's weights, no answer is right, and the run must say so.
  const swapped = [...contents.slice(1), contents[0]!];
  const quiet = { ...setting, url: server.url, seconds: 1, churners: 0, contents: swapped };
  const blamed = await runSwapSafety(quiet);
  assert.ok(blamed.wrong.length > 0 && blamed.right === 0, JSON.stringify(blamed));
});

/** Of a server without cached prompts and with memory for all. */
async function collectSolos(): Promise<SoloAnswers> {
  await using server = await startTiny({ scheduling: { ...defaultScheduling, prefixCacheBytes: 0 } });
  await using client = new HttpClient(server.url);
  return await SoloAnswers.collect(client, contents); // before the server goes
}
