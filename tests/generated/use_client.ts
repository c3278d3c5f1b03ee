/** Uses the generated types against the service at the given address. tsc has checked before that they fit. */
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

const baseUrl = process.argv[2]!;
const client = createClient<paths, `application/${string}`>({ baseUrl });
const textClient = createClient<paths, `text/${string}`>({ baseUrl });
const text =
  "Northwind Airlines cancelled more than 200 flights on Friday after a computer failure left thousands of passengers " +
  "stranded at airports across the country. Chief executive Dana Whitfield apologised and promised refunds. 🙂";

/** Fails at compile time unless every kind of answer is handled. */
function summaryOf(result: Schemas["BatchResult"]): string {
  return "error" in result ? `${result.error.status} ${result.error.errors[0]?.pointer}` : result.summary;
}

async function operations(): Promise<void> {
  for (const path of ["/livez", "/readyz", "/health"] as const) {
    const { data } = await client.GET(path);
    assert.equal(data?.status, "ok");
  }
  const { data } = await textClient.GET("/metrics", { parseAs: "text" });
  assert.match(data ?? "", /precis_queue_texts/);
}

async function catalog(): Promise<void> {
  const { data: models } = await client.GET("/models");
  assert(models);
  const { data: model } = await client.GET("/models/{name}", { params: { path: { name: models.default } } });
  assert(model);
  assert.deepEqual(model, models.models.find((each) => each.name === models.default));
}

async function summaries(): Promise<string> {
  const { data, response } = await client.POST("/summarize", {
    body: { text },
    params: { header: { "X-Request-ID": "generated.2" } },
  });
  assert(data);
  assert.equal(data.id, "generated.2");
  assert.equal(response.headers.get("X-Request-ID"), "generated.2");
  assert.match(response.headers.get("Server-Timing") ?? "", /total;dur=/);
  assert.equal(data.source.characters, [...text].length);
  const reason: Schemas["FinishReason"] = data.finish_reason;
  assert.equal(reason, "stop");
  assert.equal(data.parts, undefined);
  return data.summary;
}

async function streamed(): Promise<void> {
  const { data, response } = await textClient.POST("/summarize", { body: { text, stream: true }, parseAs: "text" });
  assert.equal(response.headers.get("Content-Type")?.split(";")[0], "text/event-stream");
  const events = (data ?? "").split("\n\n").map((event) => event.split("\n").map((line) => line.replace(/^\w+: /, "")));
  const dataOf = (wanted: string) => events.filter(([name]) => name === wanted).map(([, json]) => JSON.parse(json!));
  const pieces: Schemas["TokenEvent"][] = dataOf("token");
  const [summary]: Schemas["Summary"][] = dataOf("summary");
  assert(pieces.length > 1);
  assert.equal(pieces.map((piece) => piece.text).join(""), summary?.summary);
  assert(pieces[0]?.sources[0]?.weight);
}

async function batch(summary: string): Promise<void> {
  const { data } = await client.POST("/summarize/batch", { body: { texts: [text, " ", text] } });
  assert.deepEqual(data?.results.map(summaryOf), [summary, "422 /texts/1", summary]);
}

async function attention(summary: string): Promise<void> {
  const { data: dense } = await client.POST("/attention", { body: { text } });
  assert(dense?.attention.weights);
  assert.equal(dense.summary, summary);
  assert.equal(dense.attention.weights.length, dense.attention.summary_tokens.length);
  const codePoints = [...text];
  for (const item of dense.attention.source_tokens) {
    assert.equal(codePoints.slice(item.start, item.end).join(""), item.text);
  }
  const { data: given } = await client.POST("/attention", {
    body: { text, summary, level: "word", format: "top", top_k: 2 },
  });
  assert(given?.attention.top);
  assert.equal(given.finish_reason, "given");
  assert.equal(given.attention.weights, undefined);
  assert(given.attention.top.every((row) => row.length === 2));
}

async function huggingFace(summary: string): Promise<void> {
  const { data } = await client.POST("/models/{name}", {
    params: { path: { name: "news-en" } },
    body: { inputs: [text, text] },
  });
  assert.deepEqual(data, [{ summary_text: summary }, { summary_text: summary }]);
}

async function problems(): Promise<void> {
  const { error: invalid } = await client.POST("/summarize", { body: { text, parameters: { num_beams: 99 } } });
  assert.equal(invalid?.status, 422);
  assert.equal(invalid.errors[0]?.pointer, "/parameters/num_beams");
  const { error: unknown, response } = await client.GET("/models/{name}", { params: { path: { name: "nope" } } });
  const problem: Schemas["Problem"] | undefined = unknown;
  assert.equal(response.headers.get("Content-Type"), "application/problem+json");
  assert.equal(problem?.error_type, "model-not-found");
  assert.equal(problem.error, problem.detail);
}

await operations();
await catalog();
const summary = await summaries();
await streamed();
await batch(summary);
await attention(summary);
await huggingFace(summary);
await problems();
