// Reads the part of the Dockerfile language that our Dockerfile uses; anything else is an error.

export type Instruction = { readonly name: string; readonly text: string; readonly line: number };

export type Stage = { readonly name: string; readonly instructions: readonly Instruction[] };

const known = ["WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"];

export function parseDockerfile(source: string): Stage[] {
  const stages: { name: string; instructions: Instruction[] }[] = [];
  const lines = source.split("\n");
  for (let index = 0; index < lines.length; index += 1) {
    const line = index + 1;
    let text = lines[index]!.trim();
    if (text === "" || text.startsWith("#")) continue;
    while (text.endsWith("\\")) text = `${text.slice(0, -1)}${lines[++index]!.trim()}`;
    const [, name, rest] = /^([A-Z]+)\s+(.*)$/.exec(text) ?? [];
    if (name === undefined || rest === undefined)
      throw new Error(`Dockerfile line ${line}: not an instruction`);
    if (name === "FROM") {
      stages.push({ name: / AS (\S+)$/i.exec(rest)?.[1] ?? "final", instructions: [] });
    } else if (known.includes(name)) {
      const stage = stages.at(-1);
      if (stage === undefined) throw new Error(`Dockerfile line ${line}: ${name} before FROM`);
      stage.instructions.push({ name, text: rest, line });
    } else {
      throw new Error(`Dockerfile line ${line}: this check cannot run ${name}`);
    }
  }
  return stages;
}

/** `ENV A=1 B=2`, without quotes. */
export function parseEnvironment(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split(/\s+/).map((pair) => {
      const [, name, value] = /^(\w+)=([^"'\s]+)$/.exec(pair) ?? [];
      if (name === undefined || value === undefined)
        throw new Error(`ENV ${pair}: write NAME=value without quotes`);
      return [name, value];
    }),
  );
}

/** The exec form, `["program", "argument"]`; the shell form would not pass SIGTERM on. */
export function parseExecForm(text: string): [program: string, ...args: string[]] {
  const words: unknown = JSON.parse(text);
  if (Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === "string")) {
    return words as [string, ...string[]];
  }
  throw new Error(`${text}: not in exec form`);
}
