// Reads a JSON request body: media type, size limit, syntax, schema; the first thing wrong becomes one
// RequestError that names the field's path. Knows no endpoint.

import type { z } from "@hono/zod-openapi";
import type { Share } from "../adapters-store/allowance.ts";
import { BodiesTooManyError } from "./body-budget.ts";
import {
  BodyTooLargeError,
  InvalidFieldError,
  MalformedJsonError,
  type RequestError,
  UnknownFieldError,
  UnsupportedFieldError,
  UnsupportedMediaTypeError,
} from "./errors.ts";

export const jsonBodyLimitBytes = 4 * 1024 * 1024;

/** Up to here a body counts as part of its connection. */
const freeBytes = 16 * 1024;

const jsonMediaType = /^application\/([\w.-]+\+)?json\s*(;|$)/i;

export async function readJsonBody<Schema extends z.ZodType>(
  request: Request,
  schema: Schema,
  share: Share,
): Promise<z.output<Schema>> {
  if (!jsonMediaType.test(request.headers.get("content-type") ?? "")) {
    throw new UnsupportedMediaTypeError("application/json");
  }
  const parsed = schema.safeParse(parseJson(await readLimited(request, share)), {
    jitless: true, // zod's compiled fast path needs eval, which a hardened deployment may forbid
  });
  if (parsed.success) return parsed.data;
  throw toRequestError(parsed.error.issues[0]!, []);
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new MalformedJsonError(error instanceof SyntaxError ? "syntax error" : "not UTF-8");
  }
}

async function readLimited(request: Request, share: Share): Promise<Uint8Array> {
  const announced = Number(request.headers.get("content-length") ?? Number.NaN);
  // Node's HTTP parser holds the body to this length.
  if (announced > jsonBodyLimitBytes) throw new BodyTooLargeError(jsonBodyLimitBytes);
  if (announced <= freeBytes) return new Uint8Array(await request.arrayBuffer());
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of request.body ?? []) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > jsonBodyLimitBytes) throw new BodyTooLargeError(jsonBodyLimitBytes);
    if (!share.growTo(sizeBytes)) throw new BodiesTooManyError(); // as it comes: who only announces a large body keeps nobody out
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Of the first thing wrong; `parent` is the path to what was parsed. */
export function toRequestError(issue: Issue, parent: Path): RequestError {
  const path = [...parent, ...issue.path];
  if (issue.code === "unrecognized_keys") return new UnknownFieldError(formatPath([...path, issue.keys[0]!]));
  if (issue.code === "invalid_union") return unionError(issue, path);
  if (issue.code === "custom" && issue.params?.unsupported === true) {
    return new UnsupportedFieldError(formatPath(path), issue.message);
  }
  return new InvalidFieldError(formatPath(path), isMissing(issue) ? "is missing" : issue.message);
}

/** Zod tells it in the words of its message alone. */
function isMissing({ code, message }: Issue): boolean {
  return code === "invalid_type" && message.endsWith("received undefined");
}

/** The alternative that got furthest into the value, or whose type fits, is the one that was meant. */
function unionError(issue: Extract<Issue, { code: "invalid_union" }>, path: Path): RequestError {
  const firsts = issue.errors.flatMap((alternative) => alternative.slice(0, 1));
  const deepest = firsts.reduce<Issue | null>(
    (best, next) => (depthOf(next) > (best ? depthOf(best) : 0) ? next : best),
    null,
  );
  const meant = deepest ?? firsts.find(({ code }) => code !== "invalid_type");
  if (meant) return toRequestError(meant, path);
  const expected = firsts.map((first) => (first.code === "invalid_type" ? first.expected : first.message));
  return new InvalidFieldError(formatPath(path), `expected ${[...new Set(expected)].join(" or ")}`);
}

function depthOf(issue: Issue): number {
  return issue.code === "unrecognized_keys" ? issue.path.length + 1 : issue.path.length;
}

function formatPath(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? String(key) : `${text}.${String(key)}`;
  }, "");
}
