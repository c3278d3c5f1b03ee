// The same evidence as tables: word by word, and the matrix.

import { $, make, shine } from "./dom.js";
import { percent } from "./text.js";

const MOST_ROWS = 400; // of the matrix; more than anybody reads

export function showWords({ rows, columns }, language) {
  const body = $("words").tBodies[0];
  body.lang = language;
  body.replaceChildren(...rows.map((row) => wordRow(row, columns)));
}

function wordRow({ text, log_probability, copied, links }, columns) {
  const chips = links.slice(0, 4).filter(({ weight }, place) => place === 0 || weight >= 0.02);
  return make(
    "tr",
    {},
    make("th", { scope: "row", dir: "auto", class: copied >= 0.5 ? "copied" : "" }, text),
    make("td", {}, percent(Math.exp(log_probability))),
    make("td", {}, copied === undefined ? "–" : percent(copied)),
    make("td", {}, ...chips.flatMap(({ index, weight }) => [chip(columns[index].text, weight), " "])),
  );
}

function chip(text, weight) {
  const element = make("span", { class: "chip" }, make("bdi", {}, text), ` ${percent(weight)}`);
  shine(element, weight);
  return element;
}

/** Rows are words of the text, because those are many and a page is long; columns those of the summary. */
export function showMatrix({ rows, columns }, language, threshold) {
  const chosen = choose(columns, threshold);
  const table = $("matrix");
  table.lang = language;
  table.tHead.replaceChildren(
    make("tr", {}, make("td", {}), ...rows.map(({ text }) => make("th", { scope: "col" }, make("span", {}, text)))),
  );
  table.tBodies[0].replaceChildren(...chosen.map((column) => matrixRow(column, rows.length)));
  $("shown").textContent = `${chosen.length} of ${columns.length} words`;
}

function choose(columns, threshold) {
  const peak = ({ links }) => links[0]?.weight ?? 0;
  const enough = columns.filter((column) => peak(column) >= threshold);
  if (enough.length <= MOST_ROWS) return enough;
  const least = enough.map(peak).sort((one, other) => other - one)[MOST_ROWS - 1];
  return enough.filter((column) => peak(column) >= least).slice(0, MOST_ROWS);
}

function matrixRow({ text, links }, width) {
  const weights = new Array(width).fill(0);
  for (const { index, weight } of links) weights[index] = weight;
  return make("tr", {}, make("th", { scope: "row", dir: "auto" }, text), ...weights.map(cell));
}

function cell(weight) {
  const element = make("td", {}, weight >= 0.01 ? String(Math.round(weight * 100)) : "");
  shine(element, weight);
  return element;
}
