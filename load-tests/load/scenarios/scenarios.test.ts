// Every scenario on a server that deserves to pass, and on servers that do not, each by one fault. A scenario without
// cases does not compile.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Scenario } from "../scenario.ts";
import { type Asked, type Rule, withSimulatedStage } from "../simulated-stage-fixture.ts";
import { type ScenarioName, scenarios } from "./index.ts";

type Fault = Rule & { readonly check: RegExp }; // the only one that fails

type Cases = {
  readonly args?: readonly string[];
  readonly good?: Rule;
  readonly faults: Readonly<Record<string, Fault>>;
};

const adapterNumber = ({ model }: Asked) => Number(model.split("-")[1]);
const broken = { error: "500 internal_error" };
const slow = { waitMs: 5000 };
const oneFails: Fault = { answer: ({ number }) => (number === 5 ? broken : {}), check: /failed/ };
/** Each adapter is asked twice: the first time from disk. */
const cold = (extraMs: number) => (asked: Asked) =>
  asked.isAskedAgain ? {} : { isFromDisk: true, waitMs: 40 + extraMs };

const cases: Record<ScenarioName, Cases> = {
  steady: {
    faults: {
      "one request fails": oneFails,
      "one in ten waits long": {
        answer: ({ number }) => (number % 10 === 0 ? slow : {}),
        check: /within the SLO/,
      },
    },
  },
  bursty: {
    faults: {
      "one request fails": oneFails,
      "a third waits long": {
        answer: ({ number }) => (number % 3 === 0 ? slow : {}),
        check: /within the SLO/,
      },
    },
  },
  "many-adapters": {
    args: ["--count", "40"],
    faults: {
      "adapters beyond five are a tenth slower": {
        answer: (asked) => (adapterNumber(asked) >= 5 ? { waitMs: 48, gapMs: 12 } : {}),
        check: /tokens\/s on 40 adapters/,
      },
    },
  },
  "cold-adapters": {
    args: ["--count", "8"],
    good: { answer: cold(35) },
    faults: {
      "a cold one takes 45 ms more": { answer: cold(45), check: /extra wait/ },
      "none is cold": { check: /as every first one/ },
      "the second request finds it on disk, too": {
        answer: () => ({ isFromDisk: true }),
        check: /as no second one/,
      },
    },
  },
  cliff: {
    faults: {
      "one more than fits and all are slower": {
        answer: ({ phase }) => (phase % 2 === 1 ? { waitMs: 60, gapMs: 12 } : {}),
        check: /tokens\/s on 5 adapters/,
      },
    },
  },
  "noisy-neighbour": {
    args: ["--key", "calm=a", "--key", "flood=b", "--rate", "5"],
    good: { answer: ({ tenant }) => (tenant === "flood" ? { waitMs: 8000 } : {}) },
    faults: {
      "the flood takes what is the other's": {
        answer: ({ streams, number }) => (streams === 2 && number % 2 === 0 ? { waitMs: 20_000 } : {}),
        check: /beside the flood/,
      },
      "the flood is none": { check: /served in time/ },
    },
  },
  "long-context": {
    faults: {
      "each token takes twice as long beside the long one": {
        answer: ({ streams }) => (streams === 2 ? { gapMs: 20 } : {}),
        check: /decode speed/,
      },
      "tokens wait while the long prompt is read": {
        answer: ({ streams, number }) => (streams === 2 && number % 20 === 0 ? { gapMs: 500 } : {}),
        check: /gap beside a long prompt/,
      },
    },
  },
  "co-serving": {
    faults: {
      "the job takes the server's time": {
        answer: ({ phase, number }) => (phase === 1 && number % 20 === 0 ? slow : {}),
        check: /beside the job: share/,
      },
      "the server is slow without it": {
        answer: ({ phase, number }) => (phase === 0 && number % 20 === 0 ? slow : {}),
        check: /alone: share/,
      },
    },
  },
  soak: {
    faults: {
      "one request has no end": { lostRequests: 1, check: /engine was given/ },
      "an answer changes": { probeText: String, check: /answer changed/ },
      "an answer breaks off": {
        answer: ({ number }) => (number === 3 ? { error: "stream broke off" } : {}),
        check: /other than 429/,
      },
    },
  },
};

for (const [name, scenario] of Object.entries<Scenario>(scenarios)) {
  const { args = [], good = {}, faults } = cases[name as ScenarioName];
  const run = (rule: Rule) => withSimulatedStage(args, rule, (stage) => scenario.run(stage));

  test(`${name} passes where it should`, async () => {
    const checks = await run(good);
    assert.ok(checks.length > 0);
    assert.deepEqual(
      checks.filter(({ passed }) => !passed),
      [],
    );
  });

  for (const [fault, { check, ...rule }] of Object.entries(faults)) {
    test(`${name} fails where ${fault}`, async () => {
      const failed = (await run(rule)).filter(({ passed }) => !passed);
      assert.equal(failed.length, 1, JSON.stringify(failed));
      assert.match(failed[0]!.name, check);
    });
  }
}

test("a job that is over before the measurement is no co-serving", async () => {
  const run = withSimulatedStage([], { jobStatus: "succeeded" }, (stage) =>
    scenarios["co-serving"].run(stage),
  );
  await assert.rejects(run, /it is succeeded/);
});
