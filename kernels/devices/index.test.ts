import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeviceOptions } from "../device.ts";
import { checkEncoding, openDevice } from "./index.ts";

test("the CPU serves no float16, and says so before anything is read", async () => {
  const refusal = {
    code: "float16_not_available",
    message: /the CPU computes in float32; .*--quantize int8/,
  };
  const model = { modelDirectory: "no such directory", encoding: "float16" };
  await assert.rejects(openDevice("cpu", { model } as DeviceOptions), refusal);
  for (const encoding of ["int4", "int8", "float32"] as const) checkEncoding("cpu", encoding);
});
