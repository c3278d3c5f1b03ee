// What went wrong, in words that say what to do.

import { $, make } from "./dom.js";

const KIND = {
  0: ["The service cannot be reached", "The connection failed, or the service is not running. Your text is still here."],
  404: ["This model is not here any more", "Choose another one."],
  413: ["The text is too long", "Shorten it, or send it in pieces."],
  429: ["You are asking faster than your key allows", "Your text is still here."],
  500: ["The model failed on this text", "Another text may well work; changing this one a little, too."],
  503: ["The service is busy", "Your text is still here."],
  504: ["It took too long", "Try again, or with fewer beams."],
};

let timer;

export function hideNotice() {
  clearInterval(timer);
  $("notice").hidden = true;
}

/** Tell of a Refusal. `again` is what the button does; `keyed` says whether a key was sent. */
export function showRefusal({ status, message, errors, retryAfter }, { again, keyed }) {
  const [title, advice] = kindOf(status, keyed);
  const alert = make("div", { role: "alert" }, make("strong", {}, title), make("p", {}, advice));
  if (message && status !== 401) alert.append(make("p", { class: "muted" }, "The service says: ", make("q", {}, message)));
  if (errors.length > 3) alert.append(make("ul", {}, ...errors.map((each) => make("li", {}, `${each.pointer} ${each.message}`))));
  const notice = $("notice");
  notice.replaceChildren(alert);
  if (status !== 401) notice.append(actions(retryAfter, again));
  notice.hidden = false;
  notice.scrollIntoView({ block: "nearest" });
}

function kindOf(status, keyed) {
  if (status === 401 && keyed) return ["This API key is not accepted", "Check it for a missing character, or ask whoever runs this service."];
  if (status === 401) return ["An API key is needed", "Put it under “Model and options”. Whoever runs this service gives them out."];
  return KIND[status] ?? ["This cannot be done as asked", status === 422 ? "Change the text or the options." : `The service answered ${status}.`];
}

/** Outside of the alert, or every second would be read aloud. */
function actions(retryAfter, again) {
  const button = make("button", { type: "button" }, "Try again");
  button.addEventListener("click", again);
  const row = make("div", { class: "bar" }, button);
  if (retryAfter !== null) row.append(countdown(retryAfter));
  return row;
}

function countdown(seconds) {
  const element = make("span", { class: "muted" });
  let left = seconds;
  const tell = () => {
    element.textContent = left > 0 ? `There should be room in ${left} s.` : "There should be room now.";
    if (left <= 0) clearInterval(timer);
    left -= 1;
  };
  clearInterval(timer);
  timer = setInterval(tell, 1000);
  tell();
  return element;
}
