// Finds a key that one JSON object holds twice. JSON.parse keeps the last one in silence, so a file could show
// one tensor to a scanner and another to us.

/** The first duplicated key of any object in `json`, which must already have passed JSON.parse. */
export function findDuplicateKey(json: string): string | undefined {
  const scopes: (Set<string> | null)[] = []; // innermost last; null for an array
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g;
  for (let match = token.exec(json); match !== null; match = token.exec(json)) {
    const text = match[0];
    if (text === "{") scopes.push(new Set());
    else if (text === "[") scopes.push(null);
    else if (text === "}" || text === "]") scopes.pop();
    else if (match[1] !== undefined) {
      const key: string = JSON.parse(text.slice(0, text.length - match[1].length));
      const scope = scopes.at(-1);
      if (scope?.has(key)) return key;
      scope?.add(key);
    }
  }
  return undefined;
}
