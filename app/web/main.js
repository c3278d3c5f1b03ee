// Assembly: the form asks, the service answers, the result is shown. One request at a time.

import { getAttention, getModels, Refusal, streamSummary, useKey } from "./api.js";
import { $, copy, make } from "./dom.js";
import { evidenceOf, tellColumn, tellRow } from "./evidence.js";
import { exampleOf, isExample } from "./examples.js";
import { hideNotice, showRefusal } from "./notice.js";
import { adopt, askForKey, chosenModel, fillModels, readOptions } from "./options.js";
import { renderWords, Source, Words } from "./reading.js";
import { writeRequest } from "./request.js";
import { showMatrix, showWords } from "./tables.js";
import { countPoints, inUnits, percent, wordsOf } from "./text.js";
import { Writer } from "./writer.js";

const HINT =
  "The text shines where the model looked. Point at a word of the summary to see where it came from, " +
  "or at a word of the text to see where it went. Underlined words are copied.";
const LARGEST_FILE = 4 << 20; // bytes

let evidence; // of the summary that is shown
let held; // the word that stays lit: {list, index}
let running; // the AbortController of the request under way

const summary = new Words($("summary"), {
  point: (index) => lightRow(index),
  leave: () => settle(),
  hold: (index) => hold(summary, index),
});
const source = new Source($("source"), $("unread"), {
  point: (index) => lightColumn(index),
  leave: () => settle(),
  hold: (index) => hold(source.words, index),
});

// Light.

function lightRow(index) {
  if (!evidence) return;
  summary.light([], index);
  source.light(evidence.rows[index].links);
  $("readout").textContent = tellRow(evidence, index);
}

function lightColumn(index) {
  if (!evidence) return;
  summary.light(evidence.columns[index].links);
  source.words.light([], index);
  $("readout").textContent = tellColumn(evidence, index);
}

/** What is lit when nothing is pointed at: the word that is held, or all of the text by its coverage. */
function settle() {
  if (!evidence) return;
  if (held) {
    (held.list === summary ? lightRow : lightColumn)(held.index);
    return;
  }
  summary.light([]);
  source.light(byCoverage());
  $("readout").textContent = HINT;
}

function byCoverage() {
  return evidence.columns.map(({ coverage }, index) => ({ index, weight: coverage }));
}

function hold(list, index) {
  const again = held?.list === list && held.index === index;
  held = again ? undefined : { list, index };
  summary.select(held?.list === summary ? index : -1);
  source.words.select(held?.list === source.words ? index : -1);
  if (!again) settle();
}

// One summary.

async function run() {
  if (running) return;
  const text = $("text").value;
  const body = { text, ...readOptions() };
  const { language } = chosenModel();
  running = new AbortController();
  begin(text, language);
  try {
    const writer = new Writer($("writing"), (spans) => source.lightSpans(spans), running.signal);
    const answer = await summarize(body, text, writer);
    await writer.finished();
    finish(evidenceOf(answer, text), language);
  } catch (error) {
    fail(error);
  } finally {
    running = undefined;
    document.body.classList.remove("busy");
    $("run").textContent = "Summarize";
  }
}

/** Streams where that is possible; the answer of /attention in any case, which is the same summary. */
async function summarize(body, text, writer) {
  if (body.parameters.num_beams === 1 && (await stream(body, text, writer))) return getAttention(body, running.signal);
  const answer = await getAttention(body, running.signal);
  writer.replay(evidenceOf(answer, text));
  return answer;
}

async function stream(body, text, writer) {
  try {
    for await (const { event, data } of streamSummary(body, running.signal)) {
      if (event === "token") writer.add(data.text, inUnits(text, data.sources));
    }
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.errors.some(({ pointer }) => pointer === "/stream")) return false;
    throw error;
  }
}

async function replay() {
  if (running) return;
  running = new AbortController();
  show("reading");
  $("summary").hidden = true;
  $("writing").hidden = false;
  const writer = new Writer($("writing"), (spans) => source.lightSpans(spans), running.signal);
  writer.replay(evidence);
  await writer.finished().finally(() => (running = undefined));
  $("writing").hidden = true;
  $("summary").hidden = false;
  settle();
}

function begin(text, language) {
  hideNotice();
  evidence = held = undefined;
  document.body.classList.add("busy");
  $("run").textContent = "Stop";
  $("status").textContent = "Writing…";
  $("result").hidden = false;
  $("summary").hidden = true;
  $("writing").hidden = false;
  $("writing").lang = language;
  for (const id of ["about", "cut", "replay", "copy-summary"]) $(id).hidden = true;
  $("readout").textContent = "";
  source.show(text, wordsOf(text, language), language);
  source.light([]);
  show("reading");
  $("result-title").focus({ preventScroll: true });
  if ($("work").getBoundingClientRect().top < 0) $("work").scrollIntoView();
}

function finish(found, language) {
  evidence = found;
  const { answer, text, rows, columns, read } = evidence;
  $("writing").hidden = true;
  $("summary").hidden = false;
  $("summary").lang = language;
  $("summary").replaceChildren();
  const elements = renderWords($("summary"), answer.summary, { start: 0, end: answer.summary.length }, rows);
  rows.forEach(({ copied }, index) => elements[index].classList.toggle("copied", copied >= 0.5));
  summary.set(elements);
  source.show(text, columns, language, read);
  showWords(evidence, language);
  drawMatrix();
  tellFacts(evidence);
  tellCut(answer);
  $("replay").hidden = $("copy-summary").hidden = false;
  $("status").textContent = `Summary: ${answer.summary}`;
  settle();
}

function fail(error) {
  $("result").hidden = true;
  $("status").textContent = "";
  show("edit");
  if (error.name === "AbortError") return;
  if (!(error instanceof Refusal)) throw error;
  const keyed = $("key").value !== "";
  if (error.status === 401) askForKey();
  showRefusal(error, { again: run, keyed });
}

function tellFacts({ answer, rows }) {
  const { source: use, timing, finish_reason, score, usage, model, parts } = answer;
  const milliseconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  const facts = {
    Model: model.name,
    Read: `${use.used_tokens} of ${use.tokens} tokens` + (parts ? `, in ${parts.length} parts` : ""),
    Written: `${usage.summary_tokens} tokens, ${rows.length} words`,
    Copied: `${rows.filter((row) => row.copied >= 0.5).length} words`,
    Likely: `${percent(Math.exp(score))}, on average, a token`,
    Ended: finish_reason === "length" ? "at its greatest length" : "by itself",
    Time: milliseconds(timing.total_ms),
    "of it waiting": milliseconds(timing.queue_ms),
    reading: milliseconds(timing.encode_ms),
    writing: milliseconds(timing.decode_ms),
  };
  if (rows[0]?.copied === undefined) delete facts.Copied;
  $("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  $("about").hidden = false;
}

function tellCut({ source: use }) {
  $("cut").hidden = !use.truncated;
  if (!use.truncated) return;
  const button = make("button", { type: "button" }, "Summarize every part");
  button.addEventListener("click", () => {
    $("truncation").value = "chunk";
    changed();
    run();
  });
  const told = `The model read ${use.used_characters.toLocaleString("en")} of ${use.characters.toLocaleString("en")} characters. `;
  $("cut").replaceChildren(told, button);
}

function drawMatrix() {
  if (evidence) showMatrix(evidence, chosenModel().language, Number($("threshold").value));
}

// The page.

function show(view) {
  for (const { value } of document.getElementsByName("view")) $(`view-${value}`).hidden = value !== view;
  for (const radio of document.getElementsByName("view")) {
    radio.checked = radio.value === view;
    radio.disabled = radio.value !== "edit" && $("result").hidden;
  }
}

function changed() {
  const text = $("text").value;
  const characters = countPoints(text);
  $("count").textContent = `${characters.toLocaleString("en")} ${characters === 1 ? "character" : "characters"}`;
  if (!chosenModel()) return;
  const language = document.querySelector("[name=language]:checked").value;
  const options = { attention: $("with-attention").checked, key: $("key").value !== "" };
  $("request").textContent = writeRequest(language, new URL(".", location.href).href, { text, ...readOptions() }, options);
}

function setText(text) {
  $("text").value = text;
  show("edit");
  changed();
}

async function takeFile(file) {
  if (!file) return;
  if (file.size > LARGEST_FILE) {
    showRefusal(new Refusal(413), { again: hideNotice, keyed: false });
    return;
  }
  setText(await file.text());
}

async function load() {
  hideNotice();
  try {
    fillModels(await getModels());
  } catch (error) {
    if (error.status === 401) askForKey();
    showRefusal(error, { again: load, keyed: $("key").value !== "" });
    return;
  }
  if (!chosenModel()) {
    $("count").textContent = "The models are being loaded…";
    setTimeout(load, 1000);
    return;
  }
  if ($("text").value === "") $("text").value = exampleOf(chosenModel().language);
  changed();
}

async function copied(button, text) {
  await copy(text);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

$("options").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) {
    running.abort();
    return;
  }
  if (!chosenModel()) await load();
  if (chosenModel()) run();
});
$("options").addEventListener("input", changed);
$("text").addEventListener("input", changed);
$("model").addEventListener("change", () => {
  adopt();
  if (isExample($("text").value)) $("text").value = exampleOf(chosenModel().language);
  changed();
});
$("key").addEventListener("input", () => useKey($("key").value));
$("example").addEventListener("click", () => setText(exampleOf(chosenModel()?.language ?? "en")));
$("clear").addEventListener("click", () => {
  setText("");
  $("text").focus();
});
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => takeFile($("file").files[0]));
$("views").addEventListener("change", (event) => show(event.target.value));
$("threshold").addEventListener("change", drawMatrix);
$("languages").addEventListener("change", changed);
$("with-attention").addEventListener("change", changed);
$("copy-request").addEventListener("click", () => copied($("copy-request"), $("request").textContent));
$("copy-summary").addEventListener("click", () => copied($("copy-summary"), evidence.summary));
$("replay").addEventListener("click", replay);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && held) hold(held.list, held.index), settle();
});
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  takeFile(event.dataTransfer.files[0]);
});

load();
