// transformers.js in a process of its own behind transformers-js-server.ts. It knows no adapters.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Contestant, ServeJob } from "../contestant.ts";
import { installModelBuilder } from "../install/model-builder.ts";
import {
  installTransformersJs,
  transformersJsModule,
  transformersJsVersion,
} from "../install/transformers-js.ts";
import { launch } from "../launch.ts";
import { type OnnxPrecision, onnxDtypes } from "../onnx/build-onnx.ts";
import type { TransformersJsStart } from "../transformers-js-server.ts";

const script = fileURLToPath(new URL("../transformers-js-server.ts", import.meta.url));
const precisions = { 4: "int4", 8: "int8", all: "fp32" } as const satisfies Record<
  ServeJob["bits"],
  OnnxPrecision
>;

export const transformersJs: Contestant = {
  needs: "npm, and python3 with venv and pip (5.5 GB, since PyTorch's packages bring CUDA)",
  install(prefix) {
    installTransformersJs(prefix);
    installModelBuilder(prefix);
  },

  async serve({ converted, bits, prefix }) {
    const precision = precisions[bits];
    const start: TransformersJsStart = {
      module: transformersJsModule(prefix),
      model: converted.onnx(precision),
      dtype: onnxDtypes[precision].dtype,
      threads: 2,
    };
    const { url, stop } = await launch({
      command: (port) => [process.execPath, script, String(port), JSON.stringify(start)],
      cwd: prefix,
      readyPath: "/health",
      logFile: join(prefix, "transformers-js.log"),
    });
    return {
      url,
      base: converted.shape,
      adapters: [],
      modelFields: {},
      setting: `${transformersJsVersion(prefix)}, ${precision} by the model builder${bits === "all" ? "" : ", blocks of 32, activations int8"}, 2 threads, one sequence at a time`,
      stop,
    };
  },
};
