// What /attention answers, as the page needs it: spans in UTF-16 units, weights by row and by column.

import { inUnits, percent, unitsOf } from "./text.js";

const LEAST = 0.0005; // weights below are told as nothing

/**
 * `rows` are the words of the summary, each with `links` to columns; `columns` those of the text, with `links` to rows.
 * A link is `{index, weight}`, the heaviest first. `read` is where the part ends that the model read.
 */
export function evidenceOf(answer, text) {
  const { source_tokens = [], summary_tokens = [], top = [], coverage = [] } = answer.attention ?? {};
  const unit = unitsOf(text);
  const rows = inUnits(unitsOf(answer.summary), summary_tokens);
  const columns = inUnits(unit, source_tokens).map((word, index) => ({ ...word, coverage: coverage[index], links: [] }));
  rows.forEach((row, index) => {
    const links = top[index].filter(({ weight }) => weight >= LEAST);
    row.links = links.map(({ source, weight }) => ({ index: source, weight }));
    for (const { source, weight } of links) columns[source].links.push({ index, weight });
  });
  for (const column of columns) column.links.sort((one, other) => other.weight - one.weight);
  const read = answer.source.truncated ? unit(answer.source.used_characters) : text.length;
  return { answer, text, summary: answer.summary, rows, columns, read };
}

export function tellRow({ rows, columns }, index) {
  const { text, copied, log_probability, links } = rows[index];
  const likely = `${percent(Math.exp(log_probability))} likely`;
  const copy = copied === undefined ? "" : `, ${percent(copied)} copied`;
  return `${quote(text)}: ${likely}${copy}. Looked at ${listOf(links, columns)}.`;
}

export function tellColumn({ rows, columns }, index) {
  const { text, links } = columns[index];
  const seen = links.filter(visible);
  if (seen.length === 0) return `${quote(text)} went into no word of the summary.`;
  return `${quote(text)} was looked at for ${listOf(seen, rows)}.`;
}

/** Whether anything is left of it in percent. */
const visible = ({ weight }) => weight >= 0.005;

function listOf(links, words) {
  return links
    .filter(visible)
    .slice(0, 4)
    .map(({ index, weight }) => `${quote(words[index].text)} ${percent(weight)}`)
    .join(", ");
}

/** Isolated, so that a word of another direction leaves the order of the sentence alone. */
function quote(text) {
  return `“\u2068${text}\u2069”`;
}
