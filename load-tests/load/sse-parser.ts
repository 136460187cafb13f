// Server-sent events from bytes that arrive cut anywhere (WHATWG HTML, 9.2.6), as far as completions use them:
// the data of each event. Other fields and comments are skipped.

export class SseParser {
  readonly #decoder = new TextDecoder();
  #rest = ""; // of an unfinished line
  #data: string[] = [];
  #skipsLineFeed = false; // a carriage return ended the last line; a line feed after it is part of that end

  /** @returns the data of every event that these bytes complete */
  push(bytes: Uint8Array): string[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#skipsLineFeed && text !== "") {
      if (text.startsWith("\n")) text = text.slice(1);
      this.#skipsLineFeed = false;
    }
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#skipsLineFeed ||= text.endsWith("\r");
    this.#rest = lines.pop()!;
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): string[] {
    if (line === "") {
      const data = this.#data;
      this.#data = [];
      return data.length === 0 ? [] : [data.join("\n")];
    }
    const [, value] = /^data(?::|$) ?(.*)$/s.exec(line) ?? [];
    if (value !== undefined) this.#data.push(value);
    return [];
  }
}
