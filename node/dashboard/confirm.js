// A question with two answers.

import { byId } from "./dom.js";

/** Asks the user; resolves to whether they agreed. */
export function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  const [no, agree] = dialog.querySelectorAll("button");
  agree.textContent = yes;
  dialog.showModal();
  no.focus();
  return new Promise((resolve) => {
    // Not on "close": that comes later, perhaps when the next question is there already.
    const answer = (agreed) => () => {
      dialog.close();
      resolve(agreed);
    };
    no.onclick = answer(false);
    agree.onclick = answer(true);
    dialog.oncancel = answer(false);
  });
}
