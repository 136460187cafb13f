// Prints how fast each codec decodes, on one thread: node tests/container/measure-codecs.ts
// Megabytes of f32 output per second of the thread's own time, so that neighbours on the machine count little.

import { type Encoding, encodeFloats } from "../../adapters-store/codecs/encode-floats.ts";
import { floatCodecs } from "../../adapters-store/codecs/index.ts";
import { encodeLedger } from "../../adapters-store/codecs/ledger.ts";
import { normalValues } from "../../adapters-store/container/container-fixture.ts";

const count = 4_000_000;
const rows = 16;
const runs = 20;
const encodings: readonly Encoding[] = [
  { codec: "f32" },
  { codec: "f16" },
  { codec: "bf16" },
  { codec: "int8", groupSize: 64 },
  { codec: "int4", groupSize: 32 },
  { codec: "sparse", density: 0.05 },
  ...(["urn", "rice", "bitmaps"] as const).flatMap((positions) =>
    [1, 0.5, 0.2, 0.1, 0.05].map((density): Encoding => ({ codec: "ternary", density, positions })),
  ),
];

const values = normalValues(1, count);
for (const encoding of encodings) {
  const bytes = encodeFloats(values, encoding, rows);
  report(JSON.stringify(encoding), () =>
    floatCodecs[encoding.codec].decode(bytes, count, {
      rows,
      ledger: { bytes: new Uint8Array(0), first: 0 },
    }),
  );
}
const shared = encodeLedger(1, []);
report("ledger, one step", () =>
  floatCodecs.ledger.decode(new Uint8Array(4), count, { rows, ledger: { bytes: shared, first: 0 } }),
);

function report(name: string, decode: () => unknown): void {
  for (let run = 0; run < 3; run++) decode(); // until it is compiled
  const before = process.threadCpuUsage();
  for (let run = 0; run < runs; run++) decode();
  const { user, system } = process.threadCpuUsage(before);
  console.log(`${name}: ${Math.round((count * 4 * runs) / (user + system))} MB/s`);
}
