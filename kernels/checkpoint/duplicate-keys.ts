// Finds a key that one JSON object holds twice. JSON.parse keeps the last one in silence, so a file could show
// one tensor to a scanner and another to us.

/** The first duplicated key of any object in `json`, which must already have passed JSON.parse. */
export function findDuplicateKey(json: string): string | undefined {
  const scopes: (Set<string> | null)[] = []; // innermost last; null for an array
  const structure = /["{}[\]]/g; // strings are skipped by hand: a pattern for long ones overflows the stack
  for (let match = structure.exec(json); match !== null; match = structure.exec(json)) {
    const mark = match[0];
    if (mark === "{") scopes.push(new Set());
    else if (mark === "[") scopes.push(null);
    else if (mark !== '"') scopes.pop();
    else {
      const end = stringEnd(json, match.index);
      structure.lastIndex = end;
      if (!isKey(json, end)) continue;
      const key: string = JSON.parse(json.slice(match.index, end));
      const scope = scopes.at(-1);
      if (scope?.has(key)) return key;
      scope?.add(key);
    }
  }
  return undefined;
}

/** Index after the closing quote of the string that opens at `start`. */
function stringEnd(json: string, start: number): number {
  let quote = json.indexOf('"', start + 1);
  while (isEscaped(json, quote)) quote = json.indexOf('"', quote + 1);
  return quote + 1;
}

function isEscaped(json: string, index: number): boolean {
  let backslashes = 0;
  while (json[index - 1 - backslashes] === "\\") backslashes++;
  return backslashes % 2 === 1;
}

/** Whether a colon follows, after white space. */
function isKey(json: string, index: number): boolean {
  const colon = /\s*:/y;
  colon.lastIndex = index;
  return colon.test(json);
}
