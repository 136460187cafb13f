// Our own container as an adapter format: one *.cotenant file, see docs/container.md.

import { closeSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { AdapterError } from "../../kernels/errors.ts";
import type { AdapterFormat } from "../adapter-format.ts";
import { fileSource } from "../container/byte-source.ts";
import { readContainer } from "../container/read-container.ts";

export const containerExtension = ".cotenant";

export const cotenant: AdapterFormat = {
  claim(fileNames) {
    const containers = fileNames.filter((name) => name.endsWith(containerExtension));
    if (containers.length < 2) return containers.length === 0 ? null : containers;
    throw new AdapterError(
      "adapter_file_duplicate",
      `[${containers.slice(0, 10)}] are ${containers.length} adapters; give one *${containerExtension} file`,
    );
  },

  decode(directory, targets, baseFingerprint) {
    const [name] = cotenant.claim(readdirSync(directory)) ?? [];
    if (name === undefined) {
      throw new AdapterError("adapter_weights_missing", `there is no *${containerExtension} file; give one`);
    }
    const fd = openSync(join(directory, name), "r");
    try {
      return readContainer(fileSource(fd), { targets, fingerprint: baseFingerprint }).adapter;
    } finally {
      closeSync(fd);
    }
  },
};
