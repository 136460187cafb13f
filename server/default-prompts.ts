// What two versions' outputs are compared on where a request names no prompts: plain sentences of the kinds of text
// that servers see. An adapter's own prompts tell more of what compression costs it.

export const defaultPrompts: readonly string[] = [
  "The meeting moved to Thursday at three, so please send the notes before noon.",
  "Hello, this is Maria Lopez. Please send 12 blue lamps to Oslo.",
  "I was charged twice for the same order. Can you help me?",
  "Water boils at 100 degrees Celsius at sea level, and at less on a mountain.",
  "def area(width, height):\n    return width * height\n",
  "The capital of France is Paris, and the capital of Norway is",
  '{"name": "Anna Rossi", "town": "Rome", "items": [{"count": 2, "item": "chairs"}]}',
  "We stayed for two nights. The room was clean, the food was cold.",
  "Which orders from Berlin cost more than 250?",
  "1. Open the lid. 2. Remove the filter. 3. Rinse it under cold water.",
  "Dear Sir or Madam, I am writing about the delivery of last week.",
  "Once upon a time there was a small house at the edge of a forest.",
];
