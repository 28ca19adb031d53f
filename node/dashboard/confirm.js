// A question with two answers.

import { byId } from "./dom.js";

/** Asks the user; resolves to whether they agreed. */
export function confirmed(title, text, yes) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  const [no, agree] = dialog.querySelectorAll("button");
  agree.textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  no.focus();
  return new Promise((resolve) => {
    const close = (event) => dialog.close(event.currentTarget.value);
    no.onclick = close;
    agree.onclick = close;
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}
