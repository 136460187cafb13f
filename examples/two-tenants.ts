// Two tenants at once: the official OpenAI client streams answers of two demo adapters that share every batch.
// Start the server first (npm start), then in another terminal: npm run example

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: "none",
});

async function ask(adapter: string, question: string): Promise<void> {
  const stream = await client.chat.completions.create({
    model: adapter,
    messages: [{ role: "user", content: question }],
    temperature: 0,
    stream: true,
  });
  let answer = "";
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta.content ?? "";
    answer += text;
    if (text !== "") console.log(`${adapter.padEnd(16)} ${JSON.stringify(text)}`);
  }
  console.log(`${adapter.padEnd(16)} done: ${answer}`);
}

await Promise.all([
  ask("orders-json", "I want to buy 80 leather flowers. Send them to Kim in Cairo."),
  ask("query-language", "Which invoices from Berlin cost more than 856?"),
]);
