// Assembly: the form asks, the service answers, the result is shown. One request at a time.

import { getAttention, getModels, Refusal, streamSummary, useKey } from "./api.js";
import { $, copy } from "./dom.js";
import { evidenceOf } from "./evidence.js";
import { exampleOf, isExample } from "./examples.js";
import { Light } from "./light.js";
import { hideNotice, showRefusal } from "./notice.js";
import { adopt, askForKey, chosenModel, fillModels, readAttention, readOptions } from "./options.js";
import { writeRequest } from "./request.js";
import { tellCut, tellFacts } from "./result.js";
import { showMatrix, showWords } from "./tables.js";
import { countPoints, inUnits, unitsOf, wordsOf } from "./text.js";
import { Writer } from "./writer.js";

const LARGEST_FILE = 4 << 20; // bytes

const light = new Light();
let running; // the AbortController of what is being written

// One summary.

async function run() {
  if (running) return;
  const text = $("text").value;
  const body = { text, ...readOptions() };
  const { language } = chosenModel();
  hideNotice();
  begin(text, language);
  const which = readAttention();
  await write(async (writer) => finish(await summarize(body, which, writer), text, language)).catch(fail);
}

/** Streams where that is possible, then takes the attention, which is of the same summary. Without it `refusal` says why. */
async function summarize(body, which, writer) {
  const { text, parameters } = body;
  if (parameters.num_beams > 1) {
    const answer = await getAttention({ ...body, ...which }, running.signal);
    await writer.replay(evidenceOf(answer, text));
    return answer;
  }
  const unit = unitsOf(text);
  let streamed;
  for await (const { event, data } of streamSummary(body, running.signal)) {
    if (event === "token") writer.add(data.text, inUnits(unit, data.sources));
    if (event === "summary") streamed = data;
  }
  const attention = getAttention({ ...body, ...which }, running.signal).catch((error) => {
    if (error instanceof Refusal) return { ...streamed, refusal: error };
    throw error;
  });
  const [answer] = await Promise.all([attention, writer.finished()]);
  return answer;
}

/** Let `work` write the summary, which may be stopped meanwhile. */
async function write(work) {
  running = new AbortController();
  document.body.classList.add("busy");
  $("run").textContent = "Stop";
  $("summary").hidden = true;
  $("writing").hidden = false;
  try {
    await work(new Writer($("writing"), (spans) => light.source.lightSpans(spans), running.signal));
  } finally {
    running = undefined;
    document.body.classList.remove("busy");
    $("run").textContent = "Summarize";
    $("writing").hidden = true;
    $("summary").hidden = false;
  }
}

function begin(text, language) {
  for (const id of ["about", "cut", "replay", "copy-summary"]) $(id).hidden = true;
  $("status").textContent = "Writing…";
  $("writing").lang = language;
  $("result").hidden = false;
  light.begin(text, wordsOf(text, language), language);
  show("reading");
  $("result-title").focus({ preventScroll: true });
  if ($("work").getBoundingClientRect().top < 0) $("work").scrollIntoView();
}

function finish(answer, text, language) {
  const evidence = evidenceOf(answer, text);
  light.show(evidence, language);
  showWords(evidence, language);
  drawMatrix();
  tellFacts(evidence);
  tellCut(answer, () => {
    $("truncation").value = "chunk";
    changed();
    run();
  });
  $("replay").hidden = Boolean(answer.refusal);
  $("copy-summary").hidden = false;
  if (answer.refusal) refuse(answer.refusal, run);
  $("status").textContent = `Summary: ${answer.summary}`;
}

function fail(error) {
  $("result").hidden = true;
  $("status").textContent = "";
  show("edit");
  if (error.name !== "AbortError") refuse(error, run);
}

async function watchAgain() {
  if (running) return;
  show("reading");
  await write((writer) => writer.replay(light.evidence)).catch(() => {}); // stopped
  light.settle();
}

function drawMatrix() {
  if (light.evidence) showMatrix(light.evidence, $("summary").lang, Number($("threshold").value));
}

// The page.

function refuse(error, again) {
  if (!(error instanceof Refusal)) throw error;
  const keyed = $("key").value !== "";
  if (error.status === 401) askForKey();
  showRefusal(error, { again, keyed });
}

function show(view) {
  for (const radio of document.getElementsByName("view")) {
    $(`view-${radio.value}`).hidden = radio.value !== view;
    radio.checked = radio.value === view;
    radio.disabled = radio.value !== "edit" && $("result").hidden;
  }
}

/** The text or an option is another one. */
function changed() {
  const text = $("text").value;
  const characters = countPoints(text);
  $("count").textContent = `${characters.toLocaleString("en")} ${characters === 1 ? "character" : "characters"}`;
  if (!chosenModel()) return;
  const language = document.querySelector("[name=language]:checked").value;
  const options = { attention: $("with-attention").checked && readAttention(), key: $("key").value !== "" };
  $("request").textContent = writeRequest(language, new URL(".", location.href).href, { text, ...readOptions() }, options);
}

function setText(text) {
  $("text").value = text;
  show("edit");
  changed();
}

async function takeFile(file) {
  if (!file) return;
  hideNotice();
  if (file.size > LARGEST_FILE) refuse(new Refusal(413), hideNotice);
  else setText(await file.text());
}

async function load() {
  hideNotice();
  try {
    fillModels(await getModels());
  } catch (error) {
    refuse(error, load);
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

async function copyFrom(button, text) {
  await copy(text);
  $("status").textContent = button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

const on = (id, event, listener) => $(id).addEventListener(event, listener);

on("options", "submit", async (event) => {
  event.preventDefault();
  if (running) {
    running.abort();
    return;
  }
  if (!chosenModel()) await load();
  if (chosenModel()) run();
});
on("options", "input", changed);
on("model", "change", () => {
  adopt();
  if (isExample($("text").value)) setText(exampleOf(chosenModel().language));
  changed();
});
on("key", "input", () => useKey($("key").value));
on("text", "input", changed);
on("example", "click", () => setText(exampleOf(chosenModel()?.language ?? "en")));
on("clear", "click", () => {
  setText("");
  $("text").focus();
});
on("open", "click", () => $("file").click());
on("file", "change", () => takeFile($("file").files[0]));
on("views", "change", (event) => show(event.target.value));
on("threshold", "change", drawMatrix);
on("languages", "change", changed);
on("with-attention", "change", changed);
on("copy-request", "click", () => copyFrom($("copy-request"), $("request").textContent));
on("copy-summary", "click", () => copyFrom($("copy-summary"), light.evidence.summary));
on("replay", "click", watchAgain);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") light.release();
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
