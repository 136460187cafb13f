// The JSON of values that are too long to be one string: their long lists are made element by element, as it is written.

/** A list that is never in memory as a whole. */
export class LazyList<Item> implements Iterable<Item> {
  readonly #items: () => Iterable<Item>;

  constructor(items: () => Iterable<Item>) {
    this.#items = items;
  }

  [Symbol.iterator](): Iterator<Item> {
    return this.#items()[Symbol.iterator]();
  }
}

/** A type's values, any of whose lists may be lazy. */
export type WithLazyLists<T> = T extends readonly (infer Item)[]
  ? readonly WithLazyLists<Item>[] | LazyList<WithLazyLists<Item>>
  : T extends object
    ? { readonly [Key in keyof T]: WithLazyLists<T[Key]> }
    : T;

/** What JSON.stringify would return, of plain objects, in parts. */
export function* jsonParts(value: unknown): Generator<string> {
  if (value instanceof LazyList) {
    yield* listed("[]", value, (item) => [JSON.stringify(item)]);
  } else if (Array.isArray(value)) {
    yield* listed("[]", value, jsonParts);
  } else if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    yield* listed("{}", fields, function* ([name, field]) {
      yield `${JSON.stringify(name)}:`;
      yield* jsonParts(field);
    });
  } else {
    yield JSON.stringify(value);
  }
}

function* listed<Item>(
  [open, close]: string,
  items: Iterable<Item>,
  partsOf: (item: Item) => Iterable<string>,
): Generator<string> {
  let separator = open!;
  for (const item of items) {
    yield separator;
    yield* partsOf(item);
    separator = ",";
  }
  yield separator === open ? open + close! : close!;
}
