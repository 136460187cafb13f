// The layer selections by the name that a job asks for.

import { all } from "./all.ts";
import { ist } from "./ist.ts";
import type { SelectionKind } from "./layer-selection.ts";
import { lisa } from "./lisa.ts";

export const selections = { all, ist, lisa } as const satisfies Record<string, SelectionKind>;
