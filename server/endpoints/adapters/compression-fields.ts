// How a request says what compression it wants: the options of adapters-store/compress/ in JSON's names.

import { z } from "@hono/zod-openapi";
import type { CompressionOptions, FixedCompression } from "../../../adapters-store/compress/compress.ts";
import { InvalidFieldError, MalformedJsonError } from "../../errors.ts";
import { toRequestError } from "../../json-body.ts";

const methods = ["f32", "f16", "bf16", "int8", "int4", "compeft", "sparse", "skillpack"] as const;

export const compressionFields = {
  method: z.enum(methods).optional().openapi({ description: "See docs/container.md." }),
  density: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .openapi({ description: "For compeft and sparse: the share of the values that is kept." }),
  alpha: z
    .number()
    .gt(0)
    .optional()
    .openapi({ description: "For compeft: the scale; default: the one with the least error." }),
  group_size: z.int().min(2).optional().openapi({ description: "For int8 and int4: values per scale." }),
  target_ratio: z.number().min(1).optional().openapi({
    description:
      "At least so many times smaller than with 16 bits: with skillpack a codec for each group of modules, without a method one codec for all.",
  }),
};

const compressionSchema = z.strictObject(compressionFields);
export type CompressionFields = z.output<typeof compressionSchema>;
type Field = keyof CompressionFields;

const fieldsOf: Readonly<Record<(typeof methods)[number], readonly Field[]>> = {
  f32: [],
  f16: [],
  bf16: [],
  int8: ["group_size"],
  int4: ["group_size"],
  compeft: ["density", "alpha"],
  sparse: ["density"],
  skillpack: ["target_ratio"],
};

/** Null where the fields ask for nothing. Throws InvalidFieldError for fields that do not belong together. */
export function compressionOptions(fields: CompressionFields): CompressionOptions | null {
  const { method, density, alpha, group_size: groupSize, target_ratio: targetRatio } = fields;
  const given = Object.keys(compressionFields).filter((name) => fields[name as Field] !== undefined);
  const allowed: readonly string[] =
    method === undefined ? ["target_ratio"] : ["method", ...fieldsOf[method]];
  const stray = given.find((name) => !allowed.includes(name));
  if (stray !== undefined) {
    const where = method === undefined ? "without a method" : `with method ${method}`;
    throw new InvalidFieldError(stray, `means nothing ${where}; leave it out`);
  }
  switch (method) {
    case undefined:
      return targetRatio === undefined ? null : { targetRatio };
    case "int8":
    case "int4":
      return { method, ...(groupSize !== undefined && { groupSize }) };
    case "compeft":
      return { method, density: needed("density", density), ...(alpha !== undefined && { alpha }) };
    case "sparse":
      return { method, density: needed("density", density) };
    case "skillpack":
      return { method, targetRatio: needed("target_ratio", targetRatio) };
    default:
      return { method } satisfies FixedCompression;
  }
}

/**
 * An upload's `compress`: a method's name, or an object of the fields above as JSON. Throws InvalidFieldError,
 * MalformedJsonError.
 */
export function uploadCompression(value: string): CompressionOptions {
  const parsed = compressionSchema.safeParse(
    value.trimStart().startsWith("{") ? parseJson(value) : { method: value },
    {
      jitless: true,
    },
  );
  if (!parsed.success) throw toRequestError(parsed.error.issues[0]!, ["compress"]);
  const options = compressionOptions(parsed.data);
  if (options !== null) return options;
  throw new InvalidFieldError(
    "compress",
    "has neither method nor target_ratio; give one, such as compress=int8",
  );
}

function needed(name: Field, value: number | undefined): number {
  if (value !== undefined) return value;
  throw new InvalidFieldError(name, "is needed by this method");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new MalformedJsonError("in the field compress");
  }
}
