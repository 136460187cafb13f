// The file that a checkpoint is published as. What the store and the tenant's limits make of it is theirs.

import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { lowRank, smolTargets } from "../../adapters-store/container/container-fixture.ts";
import { cotenant } from "../../adapters-store/formats/cotenant.ts";
import type { DecodedAdapter } from "../../kernels/adapter.ts";
import { watched } from "../../tests/watched-fixture.ts";
import type { NewAdapter } from "../tenant-adapters.ts";
import { fixtureJob } from "./job-fixture.ts";
import { folder } from "./job-manager-fixture.ts";
import type { PlannedJob } from "./job-record.ts";
import { CheckpointPublisher } from "./publish-checkpoint.ts";

test("a checkpoint is published without a second one in memory, and other requests have their turns", async (context) => {
  const directory = folder(context);
  const adapter = lowRank(smolTargets, 64, { layers: 4 });
  let read: DecodedAdapter | null = null;
  let sizeBytes = 0;
  const add = async ({ id, source }: NewAdapter) => {
    assert.ok(source.kind === "files");
    const { path } = source.files[0]!;
    sizeBytes = statSync(path).size;
    if (id === "checked") read = cotenant.decode(dirname(path), smolTargets, "base");
  };
  const publisher = new CheckpointPublisher({
    adapters: { of: () => ({ add }) } as never,
    targets: smolTargets,
    directory,
  });
  const publish = (resultId: string) =>
    publisher.publish(fixtureJob({ resultId }) as PlannedJob, { adapter, step: 2, isResult: true });
  await publish("checked");
  assert.deepEqual(read, adapter);
  const { turns, grownBytes } = await watched(async () => {
    await publish("watched");
    return {};
  });
  assert.ok(turns >= Math.floor(sizeBytes / 2 ** 20), `${turns} turns`);
  assert.ok(grownBytes < sizeBytes / 4, `${grownBytes} of ${sizeBytes} bytes`);
  assert.deepEqual(readdirSync(directory), []);
});
