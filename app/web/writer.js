// The summary while it is written: at a pace that eyes can follow, each piece with the light of where the model looked.

const PACE = 90; // milliseconds for a piece; the model takes less than one
const LONG = 60; // pieces; of more nobody wants to watch every one

export class Writer {
  constructor(element, light, signal) {
    this.element = element;
    this.light = light;
    this.signal = signal;
    this.waiting = 0;
    this.hurries = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.last = Promise.resolve();
    element.textContent = "";
  }

  /** `spans` are `{start, end, weight}` in UTF-16 units of the text. */
  add(piece, spans) {
    this.waiting += 1;
    this.hurries ||= this.waiting > LONG;
    this.last = this.last.then(() => this.write(piece, spans));
  }

  /** Show a summary that is known already as if it were written. */
  replay({ summary, rows, columns }) {
    let at = 0;
    for (const { end, links } of rows) {
      this.add(summary.slice(at, end), links.map(({ index, weight }) => ({ ...columns[index], weight })));
      at = Math.max(at, end);
    }
    return this.finished();
  }

  async write(piece, spans) {
    if (this.signal.aborted) return;
    this.element.append(piece);
    this.light(spans);
    this.waiting -= 1;
    if (!this.hurries) await new Promise((resolve) => setTimeout(resolve, PACE));
  }

  async finished() {
    await this.last;
    this.signal.throwIfAborted();
  }
}
