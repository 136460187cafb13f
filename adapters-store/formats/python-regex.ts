// PEFT's configs hold Python regular expressions. Most mean the same in JavaScript; named groups and the
// whole-text anchors are respelled, and what JavaScript does not know is refused by the caller.

/** Python's `re.fullmatch(pattern, text)`. Throws SyntaxError. */
export function compileFullMatch(pattern: string): RegExp {
  const respelled = pattern.replaceAll("(?P<", "(?<").replaceAll(/\(\?P=(\w+)\)/g, "\\k<$1>");
  return new RegExp(`^(?:${respelled.replaceAll("\\A", "^").replaceAll("\\Z", "$")})$`);
}

/** How PEFT matches keys of rank_pattern and alpha_pattern: the module's path ends with the pattern. */
export function compilePatternKey(pattern: string): RegExp {
  return compileFullMatch(`(.*\\.)?(${pattern})`);
}
