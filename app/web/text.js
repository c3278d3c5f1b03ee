// Offsets of the API count Unicode code points; strings of JavaScript count UTF-16 units.

const INNER = /\P{White_Space}(.*\P{White_Space})?/su;

/** A function from code points to UTF-16 units of `text`; for a text without surrogates they are the same. */
export function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (point) => point;
  const units = [0];
  for (const character of text) units.push(units.at(-1) + character.length);
  return (point) => units[point];
}

/** Spans `{start, end}` in code points become spans in UTF-16 units, by `unitsOf` their text. */
export function inUnits(unit, spans) {
  return spans.map((span) => ({ ...span, start: unit(span.start), end: unit(span.end) }));
}

export function countPoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** Sentences `{start, end}` of a text, without the white space around them; `gap` when a blank line stands before. */
export function sentencesOf(text, language) {
  const segments = new Intl.Segmenter(language, { granularity: "sentence" }).segment(text);
  const sentences = [];
  let end = 0;
  for (const { segment, index } of segments) {
    const inner = INNER.exec(segment); // not trim(), which takes a byte order mark for white space
    if (!inner) continue;
    const start = index + inner.index;
    const gap = /\n\s*\n/.test(text.slice(end, start));
    end = start + inner[0].length;
    sentences.push({ start, end, gap });
  }
  return sentences;
}

/** Words `{start, end}` as the browser finds them, for as long as the service has not told its own. */
export function wordsOf(text, language) {
  const segments = new Intl.Segmenter(language, { granularity: "word" }).segment(text);
  return Array.from(segments)
    .filter(({ segment }) => segment.trim())
    .map(({ segment, index }) => ({ start: index, end: index + segment.length }));
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}
