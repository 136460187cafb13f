// POST /v1/adapters/{id}/compress: a smaller version of an adapter, and what that costs its weights and its outputs.

import { randomUUID } from "node:crypto";
import { z } from "@hono/zod-openapi";
import type { StoredAdapter } from "../../../adapters-store/store.ts";
import { AdapterError } from "../../../kernels/errors.ts";
import { compareVersions } from "../../../scheduler/compare.ts";
import {
  type CompressionTools,
  compressMeasured,
  compressWithin,
  type MeasuredCompression,
} from "../../compression.ts";
import type { ServerContext, Serving } from "../../context.ts";
import { defaultPrompts } from "../../default-prompts.ts";
import { InvalidFieldError } from "../../errors.ts";
import type { TenantAdapters } from "../../served-adapters.ts";
import { sharerOf, type Tenant } from "../../tenancy/tenant.ts";
import type { Sender } from "../../text/text-model.ts";
import { chargedForPrompts } from "../../usage/charged.ts";
import { jsonEndpoint, jsonResponse } from "../endpoint.ts";
import { type Prompt, promptSchema, promptTokenIds } from "../prompt.ts";
import { adapterAnswer, answerOf } from "./adapter-answer.ts";
import { compressionReport, compressionReportOf } from "./compression-answer.ts";
import { compressionFields, compressionOptions } from "./compression-fields.ts";

const maximumPrompts = 64;
const maximumPromptTokens = 16_384; // of all prompts together: the engine runs them twice beside its requests

const compressRequest = z
  .strictObject({
    ...compressionFields,
    max_kl: z.number().gt(0).optional().openapi({
      description:
        "The smallest form whose outputs stay within this mean KL divergence from the original's, in nats per token.",
    }),
    prompts: promptSchema.optional().openapi({
      type: ["string", "array"],
      description: "What the outputs are compared on; default: a dozen plain sentences.",
    }),
    alias: z
      .string()
      .optional()
      .openapi({ description: "The id that gets the version in place of the adapter's own." }),
  })
  .openapi("CompressRequest");

type CompressRequest = z.output<typeof compressRequest>;

const outputsSchema = z.object({
  mean_kl: z.number(),
  max_kl: z.number(),
  top1_agreement: z.number(),
  tokens: z.int(),
});

const compressAnswer = adapterAnswer
  .extend({
    parents: z.array(z.string()).openapi({ description: "The versions that it was made from." }),
    compression: compressionReport.extend({
      outputs: outputsSchema.openapi({
        description:
          "KL divergence (nats) of the next token's distribution from the original's, and how often both have the same likeliest token.",
      }),
    }),
  })
  .openapi("CompressedAdapter");

export const compressAdapter = jsonEndpoint({
  method: "post",
  path: "/v1/adapters/{id}/compress",
  access: "manage",
  listener: "main",
  summary: "Make a smaller version of an adapter, and measure what that costs",
  jsonBody: compressRequest,
  responses: { 201: jsonResponse("The version is served from now on.", compressAnswer) },
  async handle({ body, parameter, signal, tenant }, context) {
    const { serving } = context.readiness;
    const adapters = serving.adaptersOf(tenant);
    const adapter = adapters.describe(parameter("id"));
    const id = targetId(adapter, body, tenant);
    const wanted = wantedOf(body);
    const task = {
      adapter,
      prompts: await promptsOf(body, serving, { tenantId: tenant.id, signal }),
      owner: tenant.id,
      sharer: sharerOf(tenant),
      signal,
    };
    const tools = { ...serving, compare: comparerFor(adapter, tenant, context) };
    await using measured =
      "maxKl" in wanted
        ? await compressWithin(task, wanted.maxKl, tools)
        : await compressMeasured(task, wanted, tools);
    refuseMoved(adapter, id, adapters);
    const { addition } = measured.file;
    const added = await adapters.add({ ...addition, id, metadata: adapter.metadata });
    const sizes = { before: adapter.sizeBytes, after: added.sizeBytes };
    const answer: z.output<typeof compressAnswer> = {
      ...answerOf(added, context),
      parents: [...addition.lineage.parents],
      compression: { ...compressionReportOf(measured.file, sizes), outputs: outputsOf(measured) },
    };
    return Response.json(answer, { status: 201 });
  },
});

function targetId(adapter: StoredAdapter, { alias }: CompressRequest, tenant: Tenant): string {
  if (alias !== undefined) return alias;
  if (adapter.owner === tenant.id) return adapter.id;
  throw new InvalidFieldError(
    "alias",
    `is missing: ${adapter.id} is shared by its owner; give the id that your version shall have`,
  );
}

function wantedOf({ max_kl: maxKl, prompts: _, alias: __, ...fields }: CompressRequest) {
  const options = compressionOptions(fields);
  if (maxKl === undefined && options !== null) return options;
  if (maxKl !== undefined && options === null) return { maxKl };
  throw new InvalidFieldError("method", "give one of method, target_ratio (also with skillpack) and max_kl");
}

async function promptsOf(
  { prompts }: CompressRequest,
  { engine, text }: Serving,
  sender: Omit<Sender, "maxTokens">,
) {
  const given: readonly Prompt[] = prompts?.prompts ?? defaultPrompts.map((sentence) => ({ text: sentence }));
  if (given.length > maximumPrompts)
    throw new InvalidFieldError("prompts", `has more than ${maximumPrompts} prompts`);
  const { maxContext, vocabSize } = engine.model;
  const encoded = await Promise.all(
    given.map((prompt) => promptTokenIds(prompt, text, { ...sender, maxTokens: maxContext })),
  );
  for (const [index, tokenIds] of encoded.entries()) {
    const param = `prompts[${index}]`;
    if (tokenIds.length === 0) throw new InvalidFieldError(param, "has no tokens");
    if (tokenIds.length > maxContext)
      throw new InvalidFieldError(param, `has more than ${maxContext} tokens`);
    const outside = tokenIds.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      throw new InvalidFieldError(
        param,
        `token id ${outside} is outside the vocabulary of ${vocabSize} tokens`,
      );
    }
  }
  const total = encoded.reduce((sum, { length }) => sum + length, 0);
  if (total <= maximumPromptTokens) return encoded;
  throw new InvalidFieldError(
    "prompts",
    `have ${total} tokens together; the limit is ${maximumPromptTokens}`,
  );
}

/** On the tenant's account, beside its requests. Both versions read every prompt. */
function comparerFor(
  adapter: StoredAdapter,
  tenant: Tenant,
  { limits, readiness }: Pick<ServerContext, "limits" | "readiness">,
): CompressionTools["compare"] {
  const { engine, usage } = readiness.serving;
  const { id, weight, quotas } = tenant;
  const account = { id, weight, rowsAtOnce: quotas.rowsAtOnce };
  return (versions, signal) => {
    const promptTokens = 2 * versions.prompts.reduce((sum, { length }) => sum + length, 0);
    const charge = { tenant, model: adapter.id, adapterVersion: adapter.version, promptTokens, signal };
    const compare = () => compareVersions(engine, { ...versions, id: randomUUID(), tenant: account }, signal);
    return chargedForPrompts(compare, charge, { limits, usage });
  };
}

/** Else the name would go back to what it meant before somebody moved it. */
function refuseMoved(adapter: StoredAdapter, id: string, adapters: TenantAdapters): void {
  if (id !== adapter.id || adapters.get(id)?.version === adapter.version) return;
  throw new AdapterError(
    "adapter_moved",
    `${id} got another version, or was removed, while it was compressed; send the request again`,
  );
}

function outputsOf({ outputs }: MeasuredCompression): z.output<typeof outputsSchema> {
  const { meanKl, maxKl, top1Agreement, tokens } = outputs;
  return { mean_kl: meanKl, max_kl: maxKl, top1_agreement: top1Agreement, tokens };
}
