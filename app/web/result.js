// What is told of a summary beside its words.

import { $, make } from "./dom.js";
import { percent } from "./text.js";

export function tellFacts({ answer, rows }) {
  const { source, timing, finish_reason, score, usage, model, parts } = answer;
  const facts = {
    Model: model.name,
    Read: `${source.used_tokens} of ${source.tokens} tokens` + (parts ? `, in ${parts.length} parts` : ""),
    Written: `${usage.summary_tokens} tokens`,
    Copied: `${rows.filter(({ copied }) => copied >= 0.5).length} of ${rows.length} words`,
    "Not shown": `${percent(mean(rows.map(({ dropped }) => dropped)))} of the attention`,
    Likely: `${percent(Math.exp(score))} a token, on average`,
    Ended: finish_reason === "length" ? "at its greatest length" : "by itself",
    Time: milliseconds(timing.total_ms),
    "of it waiting": milliseconds(timing.queue_ms),
    reading: milliseconds(timing.encode_ms),
    writing: milliseconds(timing.decode_ms),
  };
  if (rows[0]?.copied === undefined) delete facts.Copied;
  if (rows[0]?.dropped === undefined) delete facts["Not shown"];
  const told = Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  $("facts").replaceChildren(...told);
  $("about").hidden = false;
}

/** Nothing is cut silently; `readAll` is what the button does. */
export function tellCut({ source }, readAll) {
  $("cut").hidden = !source.truncated;
  if (!source.truncated) return;
  const button = make("button", { type: "button" }, "Summarize every part");
  button.addEventListener("click", readAll);
  const [used, all] = [source.used_characters, source.characters].map((count) => count.toLocaleString("en"));
  $("cut").replaceChildren(`The model read ${used} of ${all} characters. `, button);
}

function mean(values) {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

function milliseconds(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}
