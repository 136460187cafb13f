// Every golden adapter with seeded damage to its config or its weights: decoded or refused with a code, nothing else.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type AdapterModule, moduleArrays } from "../../../kernels/adapter.ts";
import { AdapterError } from "../../../kernels/errors.ts";
import { adapterTargets } from "../../../kernels/model-family.ts";
import { openStoredBase } from "../../../kernels/stored-base.ts";
import { decodeAdapter } from "../../decode-adapter.ts";
import { mutations } from "../byte-mutations-fixture.ts";
import { configName } from "./fields.ts";
import { weightsName } from "./tensors.ts";

const goldens = join(import.meta.dirname, "../../../tests/golden-peft-kinds");
const directory = mkdtempSync(join(tmpdir(), "cotenant-mutations-"));
after(() => rmSync(directory, { recursive: true }));

const perFile = 40;
let refusals = 0;

for (const name of readdirSync(join(goldens, "adapters"))) {
  test(name, () => {
    const source = join(goldens, "adapters", name);
    const checkpointDirectory = join(goldens, "bases", name.split("-")[0]!);
    using base = openStoredBase(checkpointDirectory);
    const targets = { ...adapterTargets(base.config), checkpointDirectory };
    const files = { format: "peft", fileNames: [configName, weightsName] } as const;
    for (const spoilt of files.fileNames) {
      cpSync(source, directory, { recursive: true });
      for (const bytes of mutations([readFileSync(join(source, spoilt))], perFile)) {
        writeFileSync(join(directory, spoilt), bytes);
        try {
          const { adapter } = decodeAdapter({ directory, files, targets, baseFingerprint: "base" });
          assert.ok(adapter.modules.every(hasFiniteNumbers), "numbers that are not finite");
        } catch (error) {
          assert.ok(error instanceof AdapterError, String(error));
          assert.ok(!error.message.includes(directory), "names no path");
          refusals++;
        }
      }
    }
  });
}

test("most damage is refused", () => assert.ok(refusals > 1_500, `${refusals} refusals`));

function hasFiniteNumbers(module: AdapterModule): boolean {
  return moduleArrays(module).every(([, array]) => array.every(Number.isFinite));
}
