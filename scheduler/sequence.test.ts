import assert from "node:assert/strict";
import { test } from "node:test";
import { requestOf } from "./generation-request-fixture.ts";
import type { GenerationEvent, GenerationRequest } from "./protocol.ts";
import { Sequence, type SequenceState } from "./sequence.ts";

const vocabSize = 20;
const eos = 2;
const none = { eosTokenIds: [], chunkTokens: 128 };

/** Logits that prefer the given tokens, most of all the first. */
function preferring(...tokenIds: readonly number[]): Float32Array {
  const logits = new Float32Array(vocabSize);
  for (const [rank, id] of tokenIds.entries()) logits[id] = 10 - rank;
  return logits;
}

/** A sequence whose prompt has run as one chunk; returns the events of that. */
function prefilled(changes: Partial<GenerationRequest>, first: Float32Array, eosTokenIds: number[] = []) {
  const sequence = new Sequence(requestOf(changes), { eosTokenIds, chunkTokens: 128 });
  sequence.start(0);
  const { length } = sequence.request.promptTokenIds;
  return { sequence, events: sequence.chunkDone(length, [first]) };
}

const summary = (events: readonly GenerationEvent[]) =>
  events.map((event) => {
    if (event.type === "token") return event.tokenId;
    return event.type === "finished" ? `${event.reason} ${event.stopTokenId}` : event.type;
  });

test("the states are passed in order and no others", () => {
  const states: SequenceState[] = ["waiting", "prefilling", "decoding", "finished"];
  const allowed = new Set([
    "waiting prefilling",
    "waiting finished",
    "prefilling decoding",
    "prefilling waiting",
    "prefilling finished",
    "decoding waiting",
    "decoding finished",
  ]);
  const reached: Record<SequenceState, SequenceState[]> = {
    waiting: [],
    prefilling: ["prefilling"],
    decoding: ["prefilling", "decoding"],
    finished: ["finished"],
  };
  for (const from of states) {
    for (const to of states) {
      const sequence = new Sequence(requestOf(), none);
      for (const state of reached[from]) sequence.transition(state);
      assert.equal(sequence.state, from);
      if (allowed.has(`${from} ${to}`)) {
        sequence.transition(to);
        assert.equal(sequence.state, to);
      } else {
        assert.throws(() => sequence.transition(to), /cannot go from/);
        assert.equal(sequence.state, from);
      }
    }
  }
});

test("a prompt in chunks asks for the logits of its last token only", () => {
  const sequence = new Sequence(requestOf({ promptTokenIds: [5, 6, 7, 8, 9] }), { ...none, chunkTokens: 2 });
  sequence.start(0);
  assert.deepEqual(sequence.nextChunk(), { tokenIds: [5, 6], logits: "none" });
  assert.deepEqual(sequence.chunkDone(2, []), []);
  const { state, promptTokens, computedTokens, contextTokens } = sequence.snapshot(0);
  assert.deepEqual([state, promptTokens, computedTokens, contextTokens], ["prefilling", 5, 2, 2]);
  assert.deepEqual(sequence.nextChunk(), { tokenIds: [7, 8], logits: "none" });
  assert.deepEqual(sequence.chunkDone(2, []), []);
  assert.deepEqual(sequence.nextChunk(), { tokenIds: [9], logits: "last" });
  assert.deepEqual(summary(sequence.chunkDone(1, [preferring(11)])), [11]);
  assert.equal(sequence.state, "decoding");
  assert.equal(sequence.nextTokenId, 11);
});

test("a blend is charged for each of its rows", () => {
  const members = ["v1", "v2", null].map((adapterVersion) => ({ adapterVersion, weight: 1 }));
  const { sequence } = prefilled(
    { promptTokenIds: [5, 6, 7, 8, 9], blend: { type: "logits", members } },
    preferring(11),
  );
  assert.deepEqual(sequence.newlyServed(), { inputTokens: 15, outputTokens: 3 });
  assert.deepEqual(sequence.newlyServed(), { inputTokens: 0, outputTokens: 0 });
});

test("what is cached of a prompt is reported once, is not charged, and the rest is cut at the same places", () => {
  const sequence = new Sequence(requestOf({ promptTokenIds: [5, 6, 7, 8, 9] }), { ...none, chunkTokens: 2 });
  assert.deepEqual(sequence.start(2), [{ type: "cached", tokens: 2 }]);
  assert.deepEqual(sequence.nextChunk().tokenIds, [7, 8]);
  sequence.chunkDone(2, []);
  assert.deepEqual(sequence.newlyServed(), { inputTokens: 2, outputTokens: 0 });
  sequence.preempt();
  assert.deepEqual(sequence.start(2), []);
  assert.deepEqual(sequence.nextChunk().tokenIds, [7, 8]);
});

test("a preempted sequence repeats its chunks and its tokens without drawing, charging or reporting again", () => {
  const changes = { promptTokenIds: [5, 6, 7], maxTokens: 5, logprobs: 0 };
  const { sequence, events } = prefilled(changes, preferring(11));
  assert.deepEqual(
    summary([...events, ...sequence.take(preferring(12)), ...sequence.take(preferring(13))]),
    [11, 12, 13],
  );
  assert.deepEqual(sequence.newlyServed(), { inputTokens: 3, outputTokens: 3 });
  sequence.preempt();
  assert.equal(sequence.contextTokens, 0);
  assert.deepEqual(sequence.start(0), []);
  assert.deepEqual(sequence.nextChunk(), { tokenIds: [5, 6, 7], logits: "none" });
  assert.deepEqual(sequence.chunkDone(3, []), []);
  const fed = [sequence.nextTokenId];
  assert.deepEqual(sequence.take(preferring(1)), []); // what it says is known
  fed.push(sequence.nextTokenId);
  assert.deepEqual(sequence.take(preferring(1)), []);
  fed.push(sequence.nextTokenId);
  assert.deepEqual(fed, [11, 12, 13]);
  assert.deepEqual(summary(sequence.take(preferring(14))), [14]);
  assert.deepEqual(sequence.newlyServed(), { inputTokens: 0, outputTokens: 1 });
});

test("max_tokens ends with length, after its last token", () => {
  const { sequence, events } = prefilled({ maxTokens: 2 }, preferring(11));
  assert.deepEqual(summary(events), [11]);
  assert.deepEqual(summary(sequence.take(preferring(12))), [12, "length null"]);
  assert.equal(sequence.state, "finished");
  assert.deepEqual(summary(prefilled({ maxTokens: 1 }, preferring(3)).events), [3, "length null"]);
});

test("max_tokens 0 ends after the prompt, without a token", () => {
  const { sequence, events } = prefilled({ maxTokens: 0 }, preferring(11));
  assert.deepEqual(summary(events), ["length null"]);
  assert.equal(sequence.state, "finished");
  const [finished] = events;
  assert.ok(finished?.type === "finished" && finished.timing.decodeMs === 0 && finished.timing.queuedMs >= 0);
});

test("a stop token ends with stop and is no token event; the model's own unless ignored", () => {
  assert.deepEqual(summary(prefilled({ ignoreEos: false }, preferring(eos), [eos, 3]).events), ["stop 2"]);
  assert.deepEqual(summary(prefilled({ ignoreEos: false }, preferring(3), [eos, 3]).events), ["stop 3"]);
  assert.deepEqual(summary(prefilled({ ignoreEos: true }, preferring(eos), [eos]).events), [eos]);
  assert.deepEqual(summary(prefilled({ stopTokenIds: [9] }, preferring(9), [eos]).events), ["stop 9"]);
});

test("before min_tokens neither the model's nor the request's stop tokens can be drawn", () => {
  const changes = { ignoreEos: false, stopTokenIds: [9], minTokens: 2 };
  const { sequence, events } = prefilled(changes, preferring(eos, 9, 11), [eos]);
  assert.deepEqual(summary(events), [11]);
  assert.deepEqual(summary(sequence.take(preferring(9, eos, 12))), [12]);
  assert.deepEqual(summary(sequence.take(preferring(9, eos, 12))), ["stop 9"]);
});

test("log-probabilities of the prompt over chunks: none for the first token, then each given those before it", () => {
  const request = requestOf({ promptTokenIds: [5, 6, 7, 8], promptLogprobs: 1, maxTokens: 1 });
  const sequence = new Sequence(request, { ...none, chunkTokens: 3 });
  sequence.start(0);
  assert.equal(sequence.nextChunk().logits, "all");
  assert.deepEqual(sequence.chunkDone(3, [preferring(6), preferring(1, 7), preferring(8)]), []);
  assert.equal(sequence.nextChunk().logits, "all");
  const events = sequence.chunkDone(1, [preferring(13)]);
  assert.deepEqual(summary(events), ["prompt", 13, "length null"]);
  const [prompt] = events;
  assert.ok(prompt?.type === "prompt");
  assert.equal(prompt.logprobs.length, 4);
  assert.equal(prompt.logprobs[0], null);
  assert.deepEqual(
    prompt.logprobs.slice(1).map((one) => [one!.tokenId, one!.top.length, one!.top[0]![0]]),
    [
      [6, 1, 6],
      [7, 1, 1],
      [8, 1, 8],
    ],
  );
  const normaliser = Math.log(Math.exp(10) + Math.exp(9) + vocabSize - 2);
  assert.ok(Math.abs(prompt.logprobs[2]!.logprob - (9 - normaliser)) < 1e-6);
});

test("a token's log-probabilities come as asked", () => {
  const silent = prefilled({}, preferring(11)).events[0]!;
  assert.ok(silent.type === "token" && silent.logprob === null);
  const loud = prefilled({ logprobs: 2 }, preferring(11, 4)).events[0]!;
  assert.ok(loud.type === "token" && loud.logprob !== null);
  assert.equal(loud.logprob.tokenId, 11);
  assert.deepEqual(
    loud.logprob.top.map(([id]) => id),
    [11, 4],
  );
});
