// The only place that makes elements. Text becomes text nodes: nothing that anybody sends is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** `make("td", {class: "cell", role: "cell"}, "text", element)` */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** How strong a word shines: `--weight` is read by the style sheet. Small weights are raised, or nobody saw them. */
export function shine(element, weight) {
  if (weight < 0.02) {
    element.classList.remove("lit", "strong");
    return;
  }
  element.style.setProperty("--weight", (Math.min(1, weight) ** 0.5).toFixed(3));
  element.classList.add("lit");
  element.classList.toggle("strong", weight > 0.25);
}

/** Copy to the clipboard; where the browser keeps that for encrypted pages, the old way. */
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
