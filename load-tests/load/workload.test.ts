import assert from "node:assert/strict";
import { test } from "node:test";
import { type Arrivals, arrivalTimesMs, type OpenArrivals } from "./arrivals.ts";
import { conversationLengths, drawLength, fixedLength } from "./lengths.ts";
import { chooser, type Popularity } from "./popularity.ts";
import { Random } from "./random.ts";
import { endlessRequests, type Stream, scheduledRequests, type Workload } from "./workload.ts";

function gaps(arrivals: OpenArrivals): number[] {
  const times = [...arrivalTimesMs(arrivals, new Random(5), 1_000_000)];
  return times.map((time, index) => time - (times[index - 1] ?? 0));
}

function meanAndVariation(values: readonly number[]) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, variation: Math.sqrt(variance) / mean };
}

test("Poisson arrivals keep their rate and vary as much as their mean", () => {
  const { mean, variation } = meanAndVariation(gaps({ kind: "poisson", requestsPerSecond: 20 }));
  assert.ok(Math.abs(mean - 50) < 2, `mean ${mean}`);
  assert.ok(Math.abs(variation - 1) < 0.05, `variation ${variation}`);
});

test("bursty arrivals keep the rate and vary as they are told", () => {
  const { mean, variation } = meanAndVariation(gaps({ kind: "bursty", requestsPerSecond: 20, variation: 3 }));
  assert.ok(Math.abs(mean - 50) < 5, `mean ${mean}`);
  assert.ok(Math.abs(variation - 3) < 0.3, `variation ${variation}`);
});

test("lengths have the median and spread of their law and keep to its limits", () => {
  const random = new Random(9);
  const lengths = Array.from({ length: 20_000 }, () => drawLength(conversationLengths.prompt, random));
  const sorted = lengths.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * sorted.length)]!;
  const { medianTokens, sigma, minTokens, maxTokens } = conversationLengths.prompt;
  assert.ok(Math.abs(at(0.5) / medianTokens - 1) < 0.05, `median ${at(0.5)}`);
  // One standard deviation of the logarithm above the median is the 84.13th percentile.
  assert.ok(Math.abs(at(0.8413) / (medianTokens * Math.exp(sigma)) - 1) < 0.07, `p84 ${at(0.8413)}`);
  assert.equal(sorted[0], minTokens);
  assert.equal(sorted.at(-1), maxTokens);
  assert.ok(lengths.every(Number.isInteger));
  assert.equal(drawLength(fixedLength(17), random), 17);
});

function shares(popularity: Popularity, count: number): number[] {
  const random = new Random(2);
  const choose = chooser(popularity, count);
  const draws = 20_000;
  const counts = Array<number>(count).fill(0);
  for (let draw = 0; draw < draws; draw++) counts[choose(random)]!++;
  return counts.map((times) => times / draws);
}

const popularities: { popularity: Popularity; expected: number[] }[] = [
  { popularity: { kind: "identical" }, expected: [1, 0, 0, 0] },
  { popularity: { kind: "distinct" }, expected: [0.25, 0.25, 0.25, 0.25] },
  { popularity: { kind: "uniform" }, expected: [0.25, 0.25, 0.25, 0.25] },
  { popularity: { kind: "zipf", alpha: 1 }, expected: [12 / 25, 6 / 25, 4 / 25, 3 / 25] },
  { popularity: { kind: "zipf", alpha: 2 }, expected: [144, 36, 16, 9].map((part) => part / 205) },
  { popularity: { kind: "skewed" }, expected: [1 / 2, 1 / 6, 1 / 6, 1 / 6] },
];

for (const { popularity, expected } of popularities) {
  test(`${JSON.stringify(popularity)} asks for each adapter as often as it should`, () => {
    for (const [index, share] of shares(popularity, 4).entries()) {
      assert.ok(Math.abs(share - expected[index]!) < 0.02, `adapter ${index}: ${share}`);
    }
    assert.deepEqual(shares(popularity, 1), [1]);
  });
}

function workload(arrivals: Arrivals, own: Partial<Stream> = {}): Workload {
  const stream: Stream = {
    tenant: "t",
    key: null,
    arrivals,
    models: ["a", "b", "c"],
    popularity: { kind: "distinct" },
    ...conversationLengths,
    cancelShare: 0,
    requestsPerClient: null,
    ...own,
  };
  return { seed: 4, durationMs: 20_000, streams: [stream, stream] };
}

test("a schedule is the same each time, and another rate leaves its requests as they were", () => {
  const at = (requestsPerSecond: number) => [
    ...scheduledRequests(workload({ kind: "poisson", requestsPerSecond }), 0),
  ];
  assert.deepEqual(at(5), at(5));
  const requestOf = ({ atMs: _, ...request }: ReturnType<typeof at>[number]) => request;
  assert.deepEqual(at(5).slice(0, 50).map(requestOf), at(10).slice(0, 50).map(requestOf));
  assert.notDeepEqual(at(5), [...scheduledRequests(workload({ kind: "poisson", requestsPerSecond: 5 }), 1)]);
});

test("a closed loop has no schedule, and its clients have requests of their own", () => {
  const closed = workload({ kind: "closed", clients: 3 });
  assert.deepEqual([...scheduledRequests(closed, 0)], []);
  const firsts = [0, 1, 2].map((client) => endlessRequests(closed, 0, client).next().value);
  assert.deepEqual(
    firsts.map(({ model }) => model),
    ["a", "b", "c"],
  );
  assert.equal(new Set(firsts.map(({ seed }) => seed)).size, 3);
});

test("as many requests as asked for are to be cancelled", () => {
  const cancelled = workload({ kind: "poisson", requestsPerSecond: 100 }, { cancelShare: 0.2 });
  const requests = [...scheduledRequests(cancelled, 0)];
  const share = requests.filter(({ cancelAfterMs }) => cancelAfterMs !== null).length / requests.length;
  assert.ok(Math.abs(share - 0.2) < 0.05, `share ${share}`);
});
