// The text while it is read: a sentence a row, words that shine, and a bar for the attention that a sentence got.

import { make } from "./dom.js";
import { percent, sentencesOf } from "./text.js";
import { renderWords, Words } from "./words.js";

export class Source {
  constructor(container, unread, on) {
    this.container = container;
    this.unread = unread;
    this.words = new Words(container, on);
  }

  /** `words` are in order; from `read` on the model did not see the text. */
  show(text, words, language, read = text.length) {
    this.spans = words;
    this.sentences = sentencesOf(text.slice(0, read), language);
    this.container.lang = language;
    this.container.replaceChildren();
    const elements = [];
    let next = 0;
    for (const [number, sentence] of this.sentences.entries()) {
      const first = next;
      const last = number === this.sentences.length - 1;
      while (next < words.length && (last || words[next].start < sentence.end)) next += 1;
      sentence.words = [first, next];
      sentence.share = make("span", { class: "share", "aria-hidden": "true" });
      const line = make("div", { class: "line", dir: "auto" });
      elements.push(...renderWords(line, text, sentence, words.slice(first, next)));
      const group = { class: sentence.gap ? "sentence gap" : "sentence", role: "group", "aria-label": `Sentence ${number + 1}` };
      this.container.append(make("div", group, sentence.share, line));
    }
    this.words.set(elements);
    this.showUnread(text.slice(read), language);
  }

  showUnread(rest, language) {
    this.unread.hidden = !rest.trim();
    if (this.unread.hidden) return;
    this.unread.lang = language;
    const note = make("p", { class: "cut" }, "The model did not read beyond this point.");
    this.unread.replaceChildren(note, make("div", { class: "line", dir: "auto" }, rest.trim()));
  }

  /** Light words, and tell how much of the weight each sentence got. */
  light(links) {
    this.words.light(links);
    const weights = new Array(this.spans.length).fill(0);
    for (const { index, weight } of links) weights[index] += weight;
    const total = sum(weights);
    for (const { words, share } of this.sentences) {
      const part = total && sum(weights.slice(...words)) / total;
      share.style.setProperty("--share", part.toFixed(4));
      share.textContent = total ? percent(part) : "";
    }
  }

  /** Light spans `{start, end, weight}` of the text, whatever words they fall on. */
  lightSpans(spans) {
    const weights = new Map();
    for (const { start, end, weight } of spans) {
      const index = lastBefore(this.spans, end);
      if (this.spans[index]?.end > start) weights.set(index, (weights.get(index) ?? 0) + weight);
    }
    this.light(Array.from(weights, ([index, weight]) => ({ index, weight })));
  }
}

const sum = (weights) => weights.reduce((total, weight) => total + weight, 0);

/** Index of the last word that starts before `place`; -1 when there is none. */
function lastBefore(words, place) {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start < place) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
