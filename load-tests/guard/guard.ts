// npm run bench -- --guard: fails where the graph or a step has become more than baseline.json says.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compareFacts } from "./compare-facts.ts";
import { type Facts, measureFacts } from "./facts.ts";

const baselineFile = fileURLToPath(new URL("baseline.json", import.meta.url));
const updateCommand = "npm run bench -- --guard --update";

/** @returns whether nothing became worse */
export async function guard({ update }: { readonly update: boolean }): Promise<boolean> {
  const measured = await measureFacts();
  if (update) {
    writeFileSync(baselineFile, `${JSON.stringify(measured, null, 2)}\n`);
    console.log(`${baselineFile} is written; commit it with what changed the figures.`);
    return true;
  }
  const baseline = JSON.parse(readFileSync(baselineFile, "utf8")) as Facts;
  const { text, worse, better } = compareFacts(baseline, measured);
  console.log(text);
  if (worse.length > 0) {
    console.log(`Step back: ${worse.join("; ")}.`);
    console.log(
      `Where this is meant: ${updateCommand}, commit the file, and say in docs/experiments.md why.`,
    );
    return false;
  }
  if (better.length > 0) console.log(`Better than the baseline; keep it so with ${updateCommand}.`);
  return true;
}
