// Words that can be pointed at, tapped and walked through with the keyboard.

import { make, shine } from "./dom.js";

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

/** A listbox of words. One of them is in the tab order; arrows move on. `on` gets `point(index)`, `leave()`, `hold(words, index)`. */
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
    container.addEventListener("pointerleave", () => on.leave());
    container.addEventListener("focusout", (event) => {
      if (!container.contains(event.relatedTarget)) on.leave();
    });
    container.addEventListener("click", (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) on.hold(this, index);
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
    const end = this.elements.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: -1, [forward]: 1, ArrowUp: -1, ArrowDown: 1, Home: -at, End: end - at };
    if (event.key in steps) this.elements[at + steps[event.key]]?.focus();
    else if (event.key === "Enter" || event.key === " ") this.on.hold(this, at);
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
