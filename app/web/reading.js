// Words that can be pointed at, tapped and walked through with the keyboard, and the light between text and summary.

import { make, shine } from "./dom.js";
import { sentencesOf, percent } from "./text.js";

/** Appends `text[start:end]` to `parent`; every word in it becomes an element, in order, in the returned array. */
export function renderWords(parent, text, { start, end }, words) {
  const elements = [];
  let at = start;
  for (const word of words) {
    const from = Math.max(word.start, at);
    const to = Math.max(from, Math.min(word.end, end));
    const element = make("span", { role: "option", "aria-selected": "false", tabindex: "-1" }, text.slice(from, to));
    parent.append(text.slice(at, from), element);
    elements.push(element);
    at = to;
  }
  parent.append(text.slice(at, end));
  return elements;
}

/** A listbox of words. One of them is in the tab order; arrows move on. `on` gets `point(index)`, `leave()`, `hold(index)`. */
export class Words {
  constructor(container, on) {
    this.container = container;
    this.elements = [];
    this.on = on;
    const tell = (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) on.point(index);
    };
    container.addEventListener("pointerover", tell);
    container.addEventListener("focusin", (event) => {
      tell(event);
      this.makeStop(this.indexOf(event.target));
    });
    container.addEventListener("pointerout", () => on.leave());
    container.addEventListener("focusout", () => on.leave());
    container.addEventListener("click", (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) on.hold(index);
    });
    container.addEventListener("keydown", (event) => this.press(event));
  }

  set(elements) {
    this.elements = elements;
    this.indices = new Map(elements.map((element, index) => [element, index]));
    this.stop = undefined;
    this.makeStop(0);
  }

  indexOf(element) {
    return this.indices?.get(element) ?? -1;
  }

  makeStop(index) {
    if (!this.elements[index]) return;
    this.stop?.setAttribute("tabindex", "-1");
    this.stop = this.elements[index];
    this.stop.setAttribute("tabindex", "0");
  }

  press(event) {
    const at = this.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const forward = getComputedStyle(event.target).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const steps = { ArrowLeft: -1, ArrowRight: -1, ArrowUp: -1, ArrowDown: 1, [forward]: 1, Home: -at, End: this.elements.length - 1 - at };
    if (event.key in steps) this.elements[at + steps[event.key]]?.focus();
    else if (event.key === "Enter" || event.key === " ") this.on.hold(at);
    else return;
    event.preventDefault();
  }

  /** Light the words of `links`, and mark the one that is pointed at, if any. */
  light(links, active = -1) {
    for (const element of this.lit ?? []) element.classList.remove("lit", "strong", "active");
    this.lit = [];
    for (const { index, weight } of links) {
      if (index === active) continue;
      shine(this.elements[index], weight);
      this.lit.push(this.elements[index]);
    }
    if (active >= 0) {
      this.elements[active].classList.add("active");
      this.lit.push(this.elements[active]);
    }
  }

  select(index) {
    this.container.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.elements[index]?.setAttribute("aria-selected", "true");
  }
}

/** The text, a sentence a row, each with the share of attention that it got. */
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
      while (next < words.length && words[next].start < sentence.end) next += 1;
      sentence.words = [first, next];
      sentence.share = make("span", { class: "share", "aria-hidden": "true" });
      const line = make("div", { class: "line", dir: "auto" });
      elements.push(...renderWords(line, text, sentence, words.slice(first, next)));
      const name = `Sentence ${number + 1}`;
      this.container.append(make("div", { class: sentence.gap ? "sentence gap" : "sentence", role: "group", "aria-label": name }, sentence.share, line));
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
  light(links, active = -1) {
    this.words.light(links, active);
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
    const links = spans.map(({ start, end, weight }) => ({ index: lastBefore(this.spans, end), start, weight }));
    this.light(links.filter(({ index, start }) => this.spans[index]?.end > start));
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
