// Why an adapter cannot be brought into memory. server/http-error.ts maps the codes to statuses.

import { AdapterError } from "../../kernels/errors.ts";

export function unknownVersion(version: string): AdapterError {
  return new AdapterError(
    "adapter_not_found",
    `adapter version ${version} is not registered or was removed; upload it again`,
  );
}

export function largerThanCache(sizeBytes: number, capacityBytes: number): AdapterError {
  return new AdapterError(
    "adapter_larger_than_cache",
    `${sizeBytes} bytes of decoded adapter do not fit the ${capacityBytes} bytes of --host-cache-bytes; raise it, or use a smaller adapter`,
  );
}

export function pinsExceedCache(pinnedBytes: number, capacityBytes: number): AdapterError {
  return new AdapterError(
    "adapter_pins_exceed_cache",
    `pinned adapters would take ${pinnedBytes} of the ${capacityBytes} bytes of --host-cache-bytes; unpin another one first, or raise it`,
  );
}

export function noRoomBesidePins(pinnedBytes: number, capacityBytes: number): AdapterError {
  return new AdapterError(
    "adapter_cache_pinned",
    `pinned adapters take ${pinnedBytes} of the ${capacityBytes} bytes of --host-cache-bytes, so this one cannot be loaded; unpin one, or raise it`,
  );
}

export function tooManyWaiting(waiting: number): AdapterError {
  return new AdapterError(
    "adapter_cache_busy",
    `${waiting} requests wait for adapters to be loaded already; send the request again later`,
  );
}

export function sizeChanged(version: string): AdapterError {
  return new AdapterError(
    "adapter_size_changed",
    `adapter version ${version} decodes to more bytes than were set aside; they are known now: send the request again`,
  );
}
