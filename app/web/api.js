// Requests to the service, relative to this page, so that it may stand under any path.

let key = "";

export function useKey(value) {
  key = value.trim();
}

/** What the service answered instead of what was wanted; status 0 when it could not be reached. */
export class Refusal extends Error {
  constructor(status, problem = {}, retryAfter = null) {
    super(problem.detail ?? "");
    this.status = status;
    this.errors = problem.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

export async function getModels() {
  const response = await ask("models", { headers: headers() });
  return response.json();
}

export async function getAttention(body, signal) {
  const response = await post("attention", { ...body, level: "word", format: "top", top_k: 400, precision: 4 }, signal);
  return response.json();
}

/** The events of a summary that is being written: `{event, data}`. */
export async function* streamSummary(body, signal) {
  const response = await post("summarize", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  while (true) {
    const { value, done } = await reader.read().catch(lost);
    if (done) return;
    const blocks = (pending + value).split(/\r?\n\r?\n/);
    pending = blocks.pop();
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event?.event === "error") throw new Refusal(event.data.status, event.data);
      if (event) yield event;
    }
  }
}

function parseEvent(block) {
  const fields = { event: "message", data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
    if (name === "event") fields.event = value;
    if (name === "data") fields.data.push(value);
  }
  const data = fields.data.join("\n");
  return data && { event: fields.event, data: JSON.parse(data) };
}

function post(path, body, signal) {
  return ask(path, { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body), signal });
}

async function ask(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options }).catch(lost);
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw new Refusal(response.status, problem, Number.isNaN(seconds) ? null : seconds);
}

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Refusal(0);
}

function headers(more = {}) {
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}
