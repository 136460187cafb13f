// Finetuning through the official openai client on the real engine: what a job goes through, what it makes, what it
// is refused for, and whose it is.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import OpenAI, { APIError } from "openai";
import { defaultScheduling } from "../../scheduler/scheduling-options.ts";
import { chatLines, smallMethod, untilJob, uploadLines } from "./fine-tuning-scene.ts";
import { errorOf } from "./scripted-app.ts";
import { all, startTiny, type TinyServer } from "./start-tiny.ts";
import { type TwoTenants, twoTenants } from "./two-tenants.ts";

suite("fine-tuning", () => {
  let tenants: TwoTenants;
  let server: TinyServer;
  let acme: OpenAI;
  let globex: OpenAI;
  let training: string;
  const cleanups: (() => unknown)[] = [];

  before(async () => {
    const context = { after: (cleanup: () => unknown) => void cleanups.push(cleanup) };
    tenants = await twoTenants(context as Parameters<typeof twoTenants>[0], { jobs: 2 });
    server = await startTiny({ keysFile: tenants.keysFile });
    const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
    acme = clientOf(tenants.keys.acme.manage);
    globex = clientOf(tenants.keys.globex.manage);
    training = await uploadLines(acme, chatLines("ticket-router", 8));
  });

  after(async () => {
    await server[Symbol.asyncDispose]();
    for (const cleanup of cleanups) await cleanup();
  });

  const get = (path: string, key = tenants.keys.acme.manage) =>
    fetch(`${server.url}${path}`, { headers: { authorization: `Bearer ${key}` } });

  const refusal = async (sent: Promise<unknown>): Promise<APIError> => {
    const error = await sent.then(
      () => assert.fail("it was accepted"),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof APIError, String(error));
    return error;
  };

  const create = (body: object) =>
    acme.fineTuning.jobs.create({ model: "tiny", training_file: training, method: smallMethod, ...body });

  test("a job from its files to an answer of its result", async () => {
    const validation = await uploadLines(acme, chatLines("ticket-router", 4, 8));
    const made = await create({
      validation_file: validation,
      suffix: "router v2",
      seed: 5,
      metadata: { team: "desk" },
    });
    assert.match(made.id, /^ftjob-[0-9a-f]{24}$/);
    const { id, status, created_at, ...rest } = made as unknown as Record<string, unknown>;
    assert.deepEqual(
      [rest.object, rest.model, rest.training_file, rest.validation_file, rest.seed, rest.organization_id],
      ["fine_tuning.job", "tiny", training, validation, 5, "acme"],
    );
    assert.ok(["queued", "running"].includes(String(status)) && Number(created_at) > 0);
    assert.deepEqual([rest.fine_tuned_model, rest.finished_at, rest.error], [null, null, null]);
    assert.equal((made.method!.supervised!.hyperparameters as { n_epochs: number }).n_epochs, 2);
    const refused = await refusal(acme.files.delete(training));
    assert.deepEqual([refused.status, refused.code], [409, "file_in_use"]);

    const stream = await get(`/v1/fine_tuning/jobs/${id}/events?stream=true`);
    const lines = (await stream.text()).trim().split("\n\n");
    assert.equal(lines.pop(), "data: [DONE]");
    const streamed = lines.map((line) => JSON.parse(line.slice("data: ".length)).message);
    const third = JSON.parse(lines[2]!.slice("data: ".length)).id;
    const rest3 = await (await get(`/v1/fine_tuning/jobs/${id}/events?stream=true&after=${third}`)).text();
    assert.deepEqual(rest3.trim().split("\n\n"), [...lines.slice(3), "data: [DONE]"]);
    const limited = await get(`/v1/fine_tuning/jobs/${id}/events?stream=true&limit=3`);
    assert.deepEqual([limited.status, (await errorOf(limited)).param], [400, "limit"]);
    const job = await untilJob(acme, made.id);
    assert.equal(job.status, "succeeded", JSON.stringify(job.error));
    assert.match(job.fine_tuned_model!, /^ft-tiny-router-v2-[0-9a-f]{8}$/);
    assert.ok(job.finished_at! >= job.created_at && job.trained_tokens! > 100);
    const events = await all(acme.fineTuning.jobs.listEvents(made.id, { limit: 3 }));
    assert.deepEqual(events.map(({ message }) => message).reverse(), streamed);
    assert.equal(new Set(events.map((event) => event.id)).size, events.length);
    assert.equal(events.filter(({ message }) => /training loss/.test(message)).length, 4);

    const checkpoints = await all(acme.fineTuning.jobs.checkpoints.list(made.id, { limit: 1 }));
    assert.deepEqual(
      checkpoints.map(({ step_number, fine_tuned_model_checkpoint }) => [
        step_number,
        fine_tuned_model_checkpoint,
      ]),
      [
        [4, job.fine_tuned_model],
        [2, `${job.fine_tuned_model}-ckpt-step-2`],
      ],
    );
    for (const { metrics, fine_tuned_model_checkpoint: model } of checkpoints) {
      assert.ok(metrics.train_loss! > 0 && metrics.valid_loss! > 0);
      assert.ok(metrics.valid_mean_token_accuracy! <= 1);
      const messages = [{ role: "user" as const, content: "My parcel is lost." }];
      const answer = await acme.chat.completions.create({ model, messages, max_tokens: 4, temperature: 0 });
      assert.equal(answer.model, model);
      const described = await (await get(`/v1/adapters/${model}`)).json();
      assert.deepEqual((described as { metadata: object }).metadata, { team: "desk" });
      assert.equal((await refusal(globex.chat.completions.create({ model, messages }))).status, 404);
    }
    const history = await (await get(`/v1/fine_tuning/jobs/${id}/history`)).text();
    assert.match(
      history,
      /^step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,tokens,learning_rate,gradient_norm,skipped\n1,\d/,
    );
    assert.equal(history.trim().split("\n").length, 5);
    const metrics = await (await get("/metrics", tenants.keys.acme.admin)).text();
    assert.match(metrics, /cotenant_training_jobs\{model_name="tiny",state="succeeded"\} 1/);
    assert.match(metrics, /cotenant_training_checkpoint_seconds_count\{model_name="tiny"\} 2/);
    await acme.files.delete(validation);
  });

  test("the same seed gives the same adapter, through a pause or not, and a job continues from one", async () => {
    const versionOf = async (id: string) =>
      ((await (await get(`/v1/adapters/${id}`)).json()) as { version: string }).version;
    const [plain, interrupted] = [await create({ seed: 1 }), await create({ seed: 1 })];
    const full = await refusal(create({}));
    assert.deepEqual([full.status, full.code], [429, "rate_limit_exceeded"]);
    const paused = await acme.fineTuning.jobs.pause(interrupted.id);
    if (String(paused.status) === "paused") {
      assert.equal((await refusal(acme.fineTuning.jobs.pause(interrupted.id))).status, 409);
      await acme.fineTuning.jobs.resume(interrupted.id);
    }
    const [one, other] = [await untilJob(acme, plain.id), await untilJob(acme, interrupted.id)];
    assert.equal(await versionOf(one.fine_tuned_model!), await versionOf(other.fine_tuned_model!));
    const model = one.fine_tuned_model!; // of rank 2, as smallMethod says
    const adapters = [
      [{ type: "lora", rank: 4 }, "rank", /keeps 2; leave it out/],
      [{ type: "lora", target_modules: ["q_proj"] }, "target_modules", /keeps q_proj, v_proj/],
      [{ type: "lora", initializer: "eva" }, "initializer", /keeps its own values/],
    ] as const;
    for (const [adapter, setting, message] of adapters) {
      const error = await refusal(create({ model, method: { ...smallMethod, adapter } }));
      const field = `method.adapter.${setting}`;
      assert.deepEqual([error.status, error.code, error.param], [400, "training_settings_invalid", field]);
      assert.match(error.message, message);
    }
    const further = await create({ model, method: { ...smallMethod, adapter: { type: "lora" } } });
    const { adapter: shown } = further.method as unknown as { adapter: Record<string, unknown> };
    assert.deepEqual([shown.rank, shown.target_modules, shown.alpha], [undefined, undefined, 32]); // its parent's are kept
    await acme.fineTuning.jobs.cancel(further.id);
    const continued = await create({ model, seed: 2 });
    const result = await untilJob(acme, continued.id);
    assert.equal(result.status, "succeeded", JSON.stringify(result.error));
    assert.equal(result.model, one.fine_tuned_model);
    assert.notEqual(await versionOf(result.fine_tuned_model!), await versionOf(one.fine_tuned_model!));
  });

  test("a cancelled job is over, and lists are pages of one's own", async () => {
    const made = await create({
      method: { ...smallMethod, supervised: { hyperparameters: { n_epochs: 500 } } },
    });
    const cancelled = await acme.fineTuning.jobs.cancel(made.id);
    assert.deepEqual([cancelled.status, cancelled.fine_tuned_model], ["cancelled", null]);
    assert.equal((await refusal(acme.fineTuning.jobs.resume(made.id))).code, "job_state");
    const jobs = await all(acme.fineTuning.jobs.list({ limit: 2 }));
    assert.equal(jobs.length, 6);
    assert.equal(jobs[0]!.id, made.id);
    const desk = await all(acme.fineTuning.jobs.list({ metadata: { team: "desk" } }));
    assert.equal(desk.length, 1);
    assert.deepEqual(await all(globex.fineTuning.jobs.list()), []);
    for (const call of [
      () => globex.fineTuning.jobs.retrieve(made.id),
      () => globex.fineTuning.jobs.cancel(made.id),
      () => globex.fineTuning.jobs.pause(made.id),
      () => globex.fineTuning.jobs.resume(made.id),
      () => globex.fineTuning.jobs.listEvents(made.id),
      () => globex.fineTuning.jobs.checkpoints.list(made.id),
    ]) {
      const error = await refusal(Promise.resolve(call()));
      assert.deepEqual([error.status, error.code], [404, "job_not_found"]);
    }
  });

  test("what cannot be trained is refused by name, and nothing is made of it", async () => {
    const before = (await all(acme.fineTuning.jobs.list())).length;
    const pairs = await uploadLines(
      acme,
      JSON.stringify({
        input: { messages: [{ role: "user", content: "a" }] },
        preferred_output: [{ role: "assistant", content: "b" }],
        non_preferred_output: [{ role: "assistant", content: "c" }],
      }),
    );
    const foreign = await uploadLines(globex, chatLines("ticket-router", 2));
    const supervised = (hyperparameters: object) => ({
      method: { type: "supervised", supervised: { hyperparameters } },
    });
    const adapter = (settings: object) => ({ method: { type: "supervised", adapter: settings } });
    const path = (name: string) => `method.supervised.hyperparameters.${name}`;
    const cases: [body: object, status: number, code: string, param: string | null][] = [
      [{ training_file: "file-none" }, 404, "file_not_found", "training_file"],
      [{ training_file: foreign }, 404, "file_not_found", "training_file"],
      [{ validation_file: foreign }, 404, "file_not_found", "validation_file"],
      [{ training_file: pairs }, 400, "invalid_value", "training_file"],
      [{ method: { type: "dpo" } }, 400, "invalid_value", "training_file"],
      [{ model: "nobody" }, 404, "model_not_found", "model"],
      [{ colour: 1 }, 400, "unknown_parameter", "colour"],
      [{ method: { type: "reinforcement" } }, 400, "invalid_value", "method.type"],
      [
        { method: { type: "dpo", supervised: { hyperparameters: {} } } },
        400,
        "invalid_value",
        "method.supervised",
      ],
      [
        supervised({ learning_rate_multiplier: "NaN" }),
        400,
        "training_settings_invalid",
        path("learning_rate_multiplier"),
      ],
      [supervised({ learning_rate: Number.NaN }), 400, "training_settings_invalid", path("learning_rate")],
      [supervised({ learning_rate: -1 }), 400, "training_settings_invalid", path("learning_rate")],
      [
        supervised({ learning_rate: 1, learning_rate_multiplier: 1 }),
        400,
        "training_settings_invalid",
        path("learning_rate_multiplier"),
      ],
      [supervised({ epochs: 3 }), 400, "training_settings_invalid", path("epochs")],
      [supervised({ beta: 1 }), 400, "training_settings_invalid", path("beta")],
      [supervised({ n_epochs: 1.5 }), 400, "training_settings_invalid", path("n_epochs")],
      [
        supervised({ optimizer: "sgd", optimizer_settings: { beta1: 0.5 } }),
        400,
        "training_settings_invalid",
        path("optimizer_settings.beta1"),
      ],
      [supervised({ max_tokens: 8 }), 400, "invalid_training_file", "training_file"],
      [
        { method: null, hyperparameters: { n_epochs: 0 } },
        400,
        "training_settings_invalid",
        "hyperparameters.n_epochs",
      ],
      [adapter({ type: "magic" }), 400, "training_settings_invalid", "method.adapter.type"],
      [adapter({ type: "lora", rnak: 4 }), 400, "training_settings_invalid", "method.adapter.rnak"],
      [adapter({ type: "lora", rank: 1e9 }), 400, "training_settings_invalid", "method.adapter.rank"],
      [adapter({ type: "lora", eva_rho: 2 }), 400, "training_settings_invalid", "method.adapter.eva_rho"],
      [
        adapter({ type: "lora", initializer: "eva", adalora_interval: 2 }),
        400,
        "training_settings_invalid",
        "method.adapter.adalora_interval",
      ],
      [
        adapter({ type: "sparse", rewind_at: 0.5 }),
        400,
        "training_settings_invalid",
        "method.adapter.rewind_at",
      ],
      [
        {
          method: {
            type: "supervised",
            supervised: { hyperparameters: { optimizer: "sgd" } },
            adapter: { type: "mezo" },
          },
        },
        400,
        "training_settings_invalid",
        path("optimizer"),
      ],
      [supervised({ warmup_steps: 1e6 }), 400, "training_settings_invalid", path("warmup_steps")],
      [{ suffix: "" }, 400, "invalid_value", "suffix"],
      [{ seed: -1 }, 400, "invalid_value", "seed"],
      [{ integrations: [{ type: "wandb", wandb: { project: "x" } }] }, 400, "invalid_value", "integrations"],
    ];
    for (const [body, status, code, param] of cases) {
      const error = await refusal(create(body));
      assert.deepEqual([error.status, error.code, error.param], [status, code, param], JSON.stringify(body));
    }
    assert.equal((await all(acme.fineTuning.jobs.list())).length, before);
    const bad = await refusal(Promise.resolve(acme.fineTuning.jobs.list({ after: "ftjob-none" })));
    assert.deepEqual([bad.status, bad.param], [400, "after"]);
  });

  test("preference pairs train by dpo, and its metrics are told", async () => {
    const pair = (n: number) =>
      JSON.stringify({
        input: { messages: [{ role: "user", content: `Ticket ${n}` }] },
        preferred_output: [{ role: "assistant", content: `HR-${n}` }],
        non_preferred_output: [{ role: "assistant", content: "I do not know." }],
      });
    const pairs = await uploadLines(acme, Array.from({ length: 4 }, (_, n) => pair(n)).join("\n"));
    const made = await create({
      training_file: pairs,
      method: { type: "dpo", dpo: { hyperparameters: { n_epochs: 1, batch_size: 2, beta: 0.2 } } },
    });
    const job = await untilJob(acme, made.id);
    assert.equal(job.status, "succeeded", JSON.stringify(job.error));
    assert.equal((job.method!.dpo!.hyperparameters as { beta: number }).beta, 0.2);
    const [checkpoint] = await all(acme.fineTuning.jobs.checkpoints.list(made.id));
    assert.ok("train_reward_margin" in checkpoint!.metrics);
  });

  test('"auto" is accepted everywhere, and the job tells what it came to', async () => {
    const job = await create({
      method: null,
      hyperparameters: { n_epochs: "auto", batch_size: "auto", learning_rate_multiplier: "auto" },
      integrations: null,
    });
    const { n_epochs, batch_size, learning_rate_multiplier } = job.hyperparameters;
    assert.deepEqual([n_epochs, batch_size, learning_rate_multiplier], [6, 8, 1]);
    await acme.fineTuning.jobs.cancel(job.id);
  });

  test("over-long examples are cut where the job says so, and it tells how many", async () => {
    const long = await uploadLines(acme, chatLines("house-style", 8));
    const hyperparameters = { max_tokens: 40, over_length: "truncate", n_epochs: 1 } as object;
    const job = await create({
      training_file: long,
      method: { type: "supervised", supervised: { hyperparameters } },
    });
    assert.ok((job as unknown as { truncated_examples: number }).truncated_examples > 0);
    await acme.fineTuning.jobs.cancel(job.id);
  });
});

test("training that does not fit into memory is refused with both numbers", async () => {
  await using server = await startTiny({
    scheduling: { ...defaultScheduling, trainingMemoryBytes: 1_000_000 },
  });
  const training_file = await uploadLines(server.client, chatLines("ticket-router", 8));
  const sent = server.client.fineTuning.jobs.create({ model: "tiny", training_file });
  await assert.rejects(
    Promise.resolve(sent),
    (error: APIError) =>
      error.status === 400 &&
      error.code === "training_does_not_fit" &&
      /\d{7,} bytes, more than the 1000000 of --training-memory-bytes/.test(error.message),
  );
});
