"use strict";
const { weights, shares } = JSON.parse(document.getElementById("numbers").textContent);
const rows = [...document.querySelectorAll("[data-row]")];
const columns = [...document.querySelectorAll("[data-column]")];

function shade(elements, shareOf) {
  for (const element of elements) {
    element.className = "w" + Math.min(9, Math.max(0, Math.ceil(shareOf(element) * 9 - 0.2)));
  }
}

function rest() {
  shade(columns, (place) => shares[place.dataset.column]);
  for (const word of rows) word.className = "";
}

for (const word of rows) {
  const show = () => shade(columns, (place) => weights[word.dataset.row][place.dataset.column]);
  word.addEventListener("pointerenter", show);
  word.addEventListener("focus", show);
  word.addEventListener("pointerleave", rest);
  word.addEventListener("blur", rest);
}
for (const place of columns) {
  place.addEventListener("pointerenter", () => shade(rows, (word) => weights[word.dataset.row][place.dataset.column]));
  place.addEventListener("pointerleave", rest);
}
