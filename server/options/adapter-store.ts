// Where uploaded adapters are kept when that is not the data folder: a URL that the operator gives. Endpoint, region
// and credentials come from where Amazon's own tools take them.

import type { BackendOptions } from "../../adapters-store/backends/index.ts";
import { type Environment, type Option, optionalText } from "./kinds.ts";

const s3Url = /^s3:\/\/(?<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(?<prefix>[^?#]*))?$/;

export const adapterStore: Option<string | null> = {
  ...optionalText({
    placeholder: "URL",
    defaultText: "the data folder",
    help: "Where uploaded adapters are kept, for one server at a time: s3://BUCKET/PREFIX, with AWS_ENDPOINT_URL, AWS_REGION and credentials as the AWS SDK finds them; docs/running.md.",
  }),
  parse: (url) =>
    s3Url.test(url) ? { value: url } : { problem: "must be s3://BUCKET or s3://BUCKET/PREFIX" },
};

/** Null = the data folder. Servers that are not Amazon's have the bucket in the path, not in the host's name. */
export function storageOf(url: string | null, environment: Environment): BackendOptions | null {
  if (url === null) return null;
  const { bucket, prefix } = s3Url.exec(url)!.groups as { bucket: string; prefix?: string };
  const endpoint = environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL;
  return {
    kind: "s3",
    bucket,
    ...(prefix && { prefix }),
    ...(endpoint && { endpoint, pathStyle: true }),
  };
}
