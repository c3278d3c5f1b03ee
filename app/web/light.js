// The light between summary and text: what is pointed at, what is held, and what shines because of it.

import { $ } from "./dom.js";
import { tellColumn, tellRow } from "./evidence.js";
import { Source } from "./source.js";
import { renderWords, Words } from "./words.js";

const HINT = "Point at a word, here or in the text, to see where it came from or went.";
const COPIES = " Underlined words are copied.";

export class Light {
  constructor() {
    const told = (point) => ({
      point: (index) => this.evidence && point(index),
      leave: () => this.settle(),
      hold: (words, index) => this.hold({ words, index, point }),
    });
    this.summary = new Words($("summary"), told((index) => this.lightRow(index)));
    this.source = new Source($("source"), $("unread"), told((index) => this.lightColumn(index)));
  }

  /** Words without evidence yet, as the browser finds them. */
  begin(text, words, language) {
    this.evidence = this.held = undefined;
    $("readout").textContent = "";
    this.source.show(text, words, language);
    this.source.light([]);
  }

  show(evidence, language) {
    this.evidence = evidence;
    const { text, summary, rows, columns, read } = evidence;
    $("summary").lang = language;
    $("summary").replaceChildren();
    const elements = renderWords($("summary"), summary, { start: 0, end: summary.length }, rows);
    rows.forEach(({ copied }, index) => elements[index].classList.toggle("copied", copied >= 0.5));
    this.summary.set(elements);
    this.source.show(text, columns, language, read);
    this.settle();
  }

  lightRow(index) {
    this.summary.light([], index);
    this.source.light(this.evidence.rows[index].links);
    $("readout").textContent = tellRow(this.evidence, index);
  }

  lightColumn(index) {
    this.summary.light(this.evidence.columns[index].links);
    this.source.words.light([], index);
    $("readout").textContent = tellColumn(this.evidence, index);
  }

  /** What is lit when nothing is pointed at: the word that is held, or all of the text by its coverage. */
  settle() {
    if (!this.evidence) return;
    if (this.held) {
      this.held.point(this.held.index);
      return;
    }
    this.summary.light([]);
    this.source.light(this.evidence.columns.map(({ coverage }, index) => ({ index, weight: coverage })));
    $("readout").textContent = this.evidence.rows.length ? this.hint : "";
  }

  get hint() {
    return this.evidence.rows.some(({ copied }) => copied !== undefined) ? HINT + COPIES : HINT;
  }

  /** Hold a word; the same one again lets it go. */
  hold(word) {
    if (!this.evidence) return;
    const again = this.held?.words === word.words && this.held.index === word.index;
    this.release();
    if (again) return;
    this.held = word;
    word.words.select(word.index);
    this.settle();
  }

  release() {
    this.held?.words.select(-1);
    this.held = undefined;
    this.settle();
  }
}
