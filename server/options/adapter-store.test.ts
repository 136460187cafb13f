import assert from "node:assert/strict";
import { test } from "node:test";
import { adapterStore, storageOf } from "./adapter-store.ts";

test("URLs of buckets are taken, others are not", () => {
  for (const url of ["s3://abc", "s3://my-bucket/", "s3://my.bucket/a/b"]) {
    assert.deepEqual(adapterStore.parse(url), { value: url });
  }
  for (const url of ["", "/data", "s3://", "s3://A_b/c", "s3://abc?x=1", "https://abc.s3.amazonaws.com"]) {
    assert.ok("problem" in adapterStore.parse(url), url);
  }
});

test("bucket, prefix and endpoint are told apart", () => {
  assert.equal(storageOf(null, { AWS_ENDPOINT_URL: "http://x" }), null);
  assert.deepEqual(storageOf("s3://abc", {}), { kind: "s3", bucket: "abc" });
  assert.deepEqual(
    storageOf("s3://abc/d/e", { AWS_ENDPOINT_URL: "http://x", AWS_ENDPOINT_URL_S3: "http://y" }),
    { kind: "s3", bucket: "abc", prefix: "d/e", endpoint: "http://y", pathStyle: true },
  );
});
