// Inference beside a finetuning job in the same server (OpenAI's files and fine_tuning routes).

import { formOf } from "../http-client.ts";
import { promptText } from "../prompt-text.ts";
import { type Scenario, ScenarioError } from "../scenario.ts";
import type { Stage } from "../stage.ts";
import { goodputShare, noErrors } from "./expectations.ts";

const leastGoodput = { alone: 0.995, withJob: 0.99 };
const training = { examples: 256, epochs: 50, promptTokens: 48, answerTokens: 24 };

export const coServing: Scenario = {
  summary: "steady arrivals, alone and beside a finetuning job on the base",
  passes: `${leastGoodput.alone} of the requests meet the SLO alone, ${leastGoodput.withJob} beside the job`,
  async run(stage) {
    const { tenants, durationSeconds } = stage.options;
    const streams = tenants.map((tenant) =>
      stage.stream(tenant, { arrivals: { kind: "poisson", requestsPerSecond: tenant.requestsPerSecond } }),
    );
    const seconds = durationSeconds / 2;
    const alone = await stage.measure("serving alone", streams, { seconds });
    const job = await Job.start(stage);
    try {
      const beside = await stage.measure("beside finetuning", streams, { seconds });
      const status = await job.status();
      if (status !== "running") throw new ScenarioError(`the job was ${status} and not running at the end`);
      return [
        noErrors(alone.figures, "alone: "),
        goodputShare(leastGoodput.alone, alone.figures, "alone: "),
        noErrors(beside.figures, "beside the job: "),
        goodputShare(leastGoodput.withJob, beside.figures, "beside the job: "),
      ];
    } finally {
      await job.end();
    }
  },
};

const waitForStartMs = 30_000;

class Job {
  readonly #stage: Stage;
  readonly #ids: { readonly file: string; readonly job: string };

  constructor(stage: Stage, ids: { readonly file: string; readonly job: string }) {
    this.#stage = stage;
    this.#ids = ids;
  }

  /** Resolves when the job trains. */
  static async start(stage: Stage): Promise<Job> {
    const { client, tenant, models } = stage;
    const form = formOf({ purpose: "fine-tune" }, [
      { field: "file", name: "load.jsonl", bytes: Buffer.from(trainingLines(stage)) },
    ]);
    const upload = await client.json({ method: "POST", path: "/v1/files", key: tenant.key, form });
    const file = (upload as { id: string }).id;
    const created = await client.json({
      method: "POST",
      path: "/v1/fine_tuning/jobs",
      key: tenant.key,
      body: {
        model: models.base,
        training_file: file,
        suffix: "load",
        seed: stage.options.seed,
        hyperparameters: { n_epochs: training.epochs },
      },
    });
    const job = new Job(stage, { file, job: (created as { id: string }).id });
    const deadline = performance.now() + waitForStartMs;
    for (let status = await job.status(); status !== "running"; status = await job.status()) {
      if (!["validating_files", "queued"].includes(status) || performance.now() > deadline) {
        await job.end();
        throw new ScenarioError(`the finetuning job does not start: it is ${status}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    return job;
  }

  async status(): Promise<string> {
    const { client, tenant } = this.#stage;
    const path = `/v1/fine_tuning/jobs/${this.#ids.job}`;
    const job = await client.json({ method: "GET", path, key: tenant.key });
    return (job as { status: string }).status;
  }

  async end(): Promise<void> {
    const { client, tenant } = this.#stage;
    const { file, job } = this.#ids;
    await client.text({
      method: "POST",
      path: `/v1/fine_tuning/jobs/${job}/cancel`,
      key: tenant.key,
      body: {},
    });
    await client.text({ method: "DELETE", path: `/v1/files/${file}`, key: tenant.key });
  }
}

function trainingLines({ shape, options }: Stage): string {
  const text = (tokens: number, seed: number) => promptText(tokens, shape.tokensPerWord, seed);
  return Array.from({ length: training.examples }, (_, index) => {
    const seed = options.seed + 2 * index;
    const messages = [
      { role: "user", content: text(training.promptTokens, seed) },
      { role: "assistant", content: text(training.answerTokens, seed + 1) },
    ];
    return `${JSON.stringify({ messages })}\n`;
  }).join("");
}
