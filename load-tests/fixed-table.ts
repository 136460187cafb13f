// A table for a terminal: the first column to the left, the others to the right.

export function fixedTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [titles, titles.map(() => ""), ...rows];
  const widths = titles.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const text = lines.map((line) =>
    line
      .map((cell, column) => {
        const filled = line === lines[1] ? "-".repeat(widths[column]!) : cell;
        return column === 0 ? filled.padEnd(widths[column]!) : filled.padStart(widths[column]!);
      })
      .join("  "),
  );
  return `${text.join("\n")}\n`;
}
