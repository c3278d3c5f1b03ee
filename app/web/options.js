// The form: models, parameters, key. What is left as the model has it is not sent.

import { $, make } from "./dom.js";

const NUMBERS = ["max_length", "min_length", "length_penalty", "no_repeat_ngram_size"];
const ATTENTIONS = ["layers", "heads"];
const models = new Map();

export function fillModels({ default: first, models: all }) {
  models.clear();
  for (const model of all) models.set(model.name, model);
  $("model").replaceChildren(...all.map(({ name }) => make("option", { value: name, selected: name === first }, name)));
  adopt();
}

export function chosenModel() {
  return models.get($("model").value);
}

/** Show the defaults of the chosen model. */
export function adopt() {
  const model = chosenModel();
  if (!model) return;
  const { limits, default_parameters: defaults, attention } = model;
  $("model-about").textContent = `${model.description} It reads up to ${limits.max_source_tokens} tokens.`;
  const beams = Array.from({ length: limits.max_beams }, (_, index) => index + 1);
  const chosen = Math.min(Number($("num_beams").value) || 1, limits.max_beams);
  $("num_beams").replaceChildren(...beams.map((count) => beamOption(count, defaults.num_beams, chosen)));
  for (const name of NUMBERS) $(name).placeholder = defaults[name];
  $("max_length").max = limits.max_summary_tokens;
  $("min_length").max = limits.max_summary_tokens;
  $("numbers_from_source").checked = defaults.numbers_from_source;
  for (const name of ATTENTIONS) fillNumbers(name, attention[name]);
  $("attentions").hidden = attention.layers * attention.heads === 1;
}

function fillNumbers(id, count) {
  const numbers = Array.from({ length: count }, (_, number) => make("option", { value: number }, String(number)));
  $(id).replaceChildren(make("option", { value: "" }, "usual"), ...numbers);
}

function beamOption(count, usual, chosen) {
  const told = { 1: "1, live", [usual]: `${count}, usual for this model` };
  return make("option", { value: count, selected: count === chosen }, told[count] ?? String(count));
}

/** The body of a request, but for its text. */
export function readOptions() {
  const model = chosenModel();
  const parameters = { num_beams: Number($("num_beams").value) };
  for (const name of NUMBERS) {
    if ($(name).value !== "") parameters[name] = $(name).valueAsNumber;
  }
  const numbers = $("numbers_from_source").checked;
  if (numbers !== model.default_parameters.numbers_from_source) parameters.numbers_from_source = numbers;
  const truncation = $("truncation").value;
  return { model: model.name, parameters, ...(truncation !== "head" && { truncation }) };
}

/** What the body of a request for attention has besides: none of it where there is nothing to choose. */
export function readAttention() {
  const chosen = {};
  if ($("attentions").hidden) return chosen;
  for (const name of ATTENTIONS) {
    if ($(name).value !== "") chosen[name] = [Number($(name).value)];
  }
  if ($("drop_sinks").checked) chosen.drop_sinks = true;
  return chosen;
}

export function askForKey() {
  $("key-field").hidden = false;
  $("key").focus();
}
