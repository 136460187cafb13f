import assert from "node:assert/strict";
import { test } from "node:test";
import { MetricsText } from "./metrics-text.ts";
import { activeRequests, balanceChecks, memoryCheck } from "./soak-balance.ts";

const metrics = (stop: number, abort: number, refused: number, submitted = stop + abort + refused) =>
  new MetricsText(`# HELP vllm:request_success_total Requests that ended, by reason.
# TYPE vllm:request_success_total counter
vllm:request_success_total{model_name="tiny",finished_reason="stop"} ${stop}
vllm:request_success_total{model_name="a \\"b\\", {c}",finished_reason="abort"} ${abort}
cotenant_requests_submitted_total{model_name="tiny"} ${submitted}
cotenant_requests_cancelled_total{model_name="tiny"} ${abort}
cotenant_requests_refused_total{model_name="tiny",code="queue_full"} ${refused}
cotenant_http_requests_total{route="/v1/completions",method="POST",status="404"} ${refused}
cotenant_http_requests_total{route="/v1/completions",method="POST",status="499"} 70
cotenant_http_requests_total{route="/v1/models",method="GET",status="404"} 80
cotenant_http_requests_total{route="/v1/completions",method="POST",status="200"} ${stop}
vllm:num_requests_running{model_name="tiny"} 2
vllm:num_requests_waiting{model_name="tiny"} 1e0
`);

test("metrics are read by name and labels", () => {
  const text = metrics(1, 2, 3);
  assert.equal(text.sum("vllm:request_success_total"), 3);
  assert.equal(
    text.sum("vllm:request_success_total", (labels) => labels.finished_reason === "stop"),
    1,
  );
  assert.equal(text.all("vllm:request_success_total")[1]!.labels.model_name, 'a "b", {c}');
  assert.equal(text.sum("no_such_metric"), null);
  assert.equal(activeRequests(text), 3);
});

test("counters balance only where each request has one end", () => {
  const before = metrics(5, 1, 2);
  const passed = (finished: number, refused: number, left: number) =>
    balanceChecks(before, metrics(15, 4, 6), { finished, refused, left }).map((check) => check.passed);
  assert.deepEqual(passed(10, 4, 0), [true, true, true, true]);
  assert.deepEqual(passed(10, 4, 9), [true, true, true, true]);
  assert.deepEqual(passed(9, 4, 0), [true, false, true, true]); // one that nobody sent
  assert.deepEqual(passed(10, 5, 0), [true, false, true, false]);
  assert.deepEqual(passed(9, 3, 2), [true, true, true, true]); // two left as their answer came
  assert.deepEqual(passed(11, 3, 0), [true, true, false, true]); // one was finished by nobody
  assert.deepEqual(passed(9, 5, 0), [true, true, true, false]);
  const after = metrics(15, 4, 6, 26); // one has no end
  const checks = balanceChecks(before, after, { finished: 10, refused: 4, left: 0 });
  assert.deepEqual(
    checks.map((check) => check.passed),
    [false, true, true, true],
  );
});

test("a server without the gauges is refused", () => {
  assert.throws(() => activeRequests(new MetricsText("up 1\n")), /num_requests_running/);
});

/** Ten minutes' growth of `share` on 100 MB, with a saw of garbage on it, after a warm-up that allocates. */
function memory(share: number, seconds: number) {
  return Array.from({ length: seconds }, (_, x) => {
    const warm = x < seconds / 5 ? (80e6 * x) / (seconds / 5) - 80e6 : 0;
    return { x, y: 100e6 * (1 + (share * x) / 600) + 3e6 * ((x % 17) / 17) + warm };
  });
}

test("memory may saw and warm up, and must not grow", () => {
  assert.equal(memoryCheck(memory(0, 1200)).check!.passed, true);
  assert.equal(memoryCheck(memory(0.005, 1200)).check!.passed, true);
  assert.equal(memoryCheck(memory(0.02, 1200)).check!.passed, false);
  assert.ok(Math.abs(memoryCheck(memory(0.02, 1200)).check!.value - 0.02) < 0.002);
});

test("a short soak says that it does not judge memory", () => {
  const { check, note } = memoryCheck(memory(0.5, 60));
  assert.equal(check, null);
  assert.match(note, /not judged/);
});
