// Asks with hf.js: a call on each line of input, its answer on a line of output, in JSON. conftest.py runs it.

import { createInterface } from "node:readline";
import { InferenceClient, request } from "@huggingface/inference";

console.warn = () => {}; // `request` says that it is deprecated

async function answer({ url, inputs, parameters, way, of_client }) {
  const { token, timeout } = of_client;
  const signal = timeout ? AbortSignal.timeout(timeout * 1000) : undefined;
  const client = new InferenceClient(token, { retry_on_error: false, signal });
  const call = { endpointUrl: url, inputs, parameters };
  try {
    const summaries = way === "request" ? await request(call) : [await client.summarization(call)];
    return { summaries: summaries.map((each) => each.summary_text) };
  } catch (error) {
    const { status = null, requestId = null } = error.httpResponse ?? {};
    return { error: { kind: error.name, message: error.message, status, retry_after: null, request_id: requestId } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
