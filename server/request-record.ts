// What is known of one HTTP request for its log line. Holds no prompt and no text.

import { randomUUID } from "node:crypto";
import type { Tenant } from "./tenancy/tenant.ts";

export class RequestRecord {
  readonly id: string;
  readonly arrivedMs = performance.now();
  tenant: Tenant | null = null; // once its key is known
  model: string | null = null; // once the tenant may use it: another's name never gets here
  promptTokens: number | null = null;
  completionTokens: { readonly total: number } | null = null; // still growing while a stream runs
  failure: string | null = null; // the code of an error that came after the status line
  streamed: Promise<void> | null = null; // settles when a streamed body is over

  constructor(inboundId: string | undefined) {
    this.id = inboundId !== undefined && saneId.test(inboundId) ? inboundId : randomUUID();
  }
}

const saneId = /^[\x21-\x7e]{1,128}$/;
