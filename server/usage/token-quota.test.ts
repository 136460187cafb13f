import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RateLimitError } from "../tenancy/errors.ts";
import { RateLimits } from "../tenancy/rate-limits.ts";
import { noQuotas, type Quotas, type Tenant } from "../tenancy/tenant.ts";
import { TokenQuota } from "./token-quota.ts";

const startMs = Date.UTC(2026, 10, 21, 1);

function scene(quotas: Partial<Quotas>) {
  const clock = { nowMs: startMs };
  const limits = new RateLimits({ tokensSince: () => 0, nowMs: () => clock.nowMs });
  const tenant: Tenant = { id: "acme", weight: 1, role: "inference", quotas: { ...noQuotas, ...quotas } };
  return { clock, limits, tenant };
}

const chat = { choices: 1, mostTokens: 8000, isOpenEnded: true };

function takeAll(quota: TokenQuota): number {
  let taken = 0;
  while (taken < 100_000 && quota.take()) taken++;
  return taken;
}

test("chats that do not say how long they may get fit side by side, and one may still have all of its context", () => {
  const { limits, tenant } = scene({ tokensPerMinute: 60_000 });
  const quotas = Array.from({ length: 25 }, () => new TokenQuota(chat));
  const reservations = quotas.map((quota) => quota.begin(100, tenant, limits));
  for (const reservation of reservations.slice(1)) reservation.settle(150);
  for (let token = 0; token < chat.mostTokens; token++) assert.ok(quotas[0]!.take());
});

test("a limit below the context is no refusal: the answer ends where the limit does", () => {
  for (const quotas of [{ tokensPerMinute: 1000 }, { tokensPerDay: 1000 }]) {
    const { limits, tenant } = scene(quotas);
    const quota = new TokenQuota(chat);
    const reservation = quota.begin(100, tenant, limits);
    assert.equal(takeAll(quota), 900);
    reservation.settle(1000);
    assert.throws(() => limits.reserve(tenant, 1), RateLimitError);
  }
});

test("what was asked for is reserved whole, and refused where it never fits", () => {
  const { limits, tenant } = scene({ tokensPerMinute: 1000 });
  const asked = (mostTokens: number) => new TokenQuota({ choices: 1, mostTokens, isOpenEnded: false });
  assert.throws(() => asked(901).begin(100, tenant, limits), { retryAfterMs: null });
  asked(900).begin(100, tenant, limits);
  assert.throws(() => limits.reserve(tenant, 1), RateLimitError);
});

const answers = fc.array(
  fc.record({
    advanceMs: fc.integer({ min: 0, max: 20_000 }),
    promptTokens: fc.integer({ min: 1, max: 300 }),
    choices: fc.integer({ min: 1, max: 3 }),
    mostTokens: fc.integer({ min: 3, max: 3000 }),
    wanted: fc.integer({ min: 0, max: 3000 }), // tokens, before those that end its choices
  }),
  { maxLength: 20 },
);

test("however answers grow beside each other, a minute's limit and what flows back in it hold", () => {
  const limit = 2000;
  fc.assert(
    fc.property(answers, (answers) => {
      const { clock, limits, tenant } = scene({ tokensPerMinute: limit });
      const used: { atMs: number; tokens: number }[] = [];
      const open = answers.flatMap(({ advanceMs, promptTokens, ...answer }) => {
        clock.nowMs += advanceMs;
        const quota = new TokenQuota({ ...answer, isOpenEnded: true });
        try {
          const reservation = quota.begin(promptTokens, tenant, limits);
          used.push({ atMs: clock.nowMs, tokens: promptTokens });
          return [{ ...answer, quota, reservation, promptTokens, tokens: 0 }];
        } catch (error) {
          assert.ok(error instanceof RateLimitError);
          return [];
        }
      });
      for (const one of open) {
        clock.nowMs += 500;
        const most = Math.min(one.wanted, one.mostTokens - one.choices);
        while (one.tokens < most && one.quota.take()) one.tokens++;
        one.tokens += one.choices; // every choice may draw the token that ends it
        one.reservation.settle(one.promptTokens + one.tokens);
        used.push({ atMs: clock.nowMs, tokens: one.tokens });
      }
      let tokens = 0;
      for (const part of used) {
        tokens += part.tokens;
        assert.ok(tokens <= limit + (limit * (part.atMs - startMs)) / 60_000 + 1e-6);
      }
    }),
  );
});
