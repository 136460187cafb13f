import assert from "node:assert/strict";
import { test } from "node:test";
import { NameHistory } from "./name-history.ts";

test("a change under way leaves both meanings open, a finished one only the new, a refused one the former", () => {
  const history = new NameHistory();
  assert.deepEqual([...history.during(0, 100)], [null]);
  history.change(1, 10).done(20);
  assert.equal(history.current, 1);
  assert.deepEqual([...history.during(0, 9)], [null]);
  assert.deepEqual([...history.during(5, 15)], [null, 1]);
  assert.deepEqual([...history.during(15, 16)], [null, 1]);
  assert.deepEqual([...history.during(21, 30)], [1]);
  const refused = history.change(2, 30);
  assert.deepEqual([...history.during(35, 36)], [1, 2]);
  refused.refused();
  assert.deepEqual([...history.during(35, 36)], [1]);
  const open = history.change(null, 40);
  assert.deepEqual([...history.during(50, 60)], [1, null]);
  open.done(70);
  assert.deepEqual([...history.during(71, 80)], [null]);
  assert.deepEqual([...history.during(0, 80)], [null, 1, null].slice(0, 2)); // over its whole life, both
});
