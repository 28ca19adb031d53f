// Who is let in: the password that mailboxes share, and the phones that are paired.

import { confirmed } from "./confirm.js";
import { byId, h, s, say } from "./dom.js";
import { ask } from "./session.js";
import { explain } from "./settings.js";
import { span } from "./words.js";

let tell = () => {};

/** Builds the card. `say_it` shows a line to the user; while `isBusy` nothing is touched. */
export async function openAccess(say_it, isBusy) {
  tell = say_it;
  const state = await (await ask("GET", "/admin/admission")).json();
  if (!isBusy()) render(state);
}

function render(state) {
  byId("access").replaceChildren(password(state), phones(state));
}

function password(state) {
  const fixed = state.password && state.password_source !== "the data directory";
  const input = h("input", { type: "password", id: "password", autocomplete: "new-password", "aria-describedby": "password-help password-wrong", placeholder: state.password ? "a new password" : "none yet", disabled: fixed });
  const save = h("button", { type: "submit", class: "primary", hidden: true }, "Set");
  const remove = state.password && !fixed ? h("button", { type: "button" }, "Remove") : null;
  const wrong = h("p", { class: "wrong", id: "password-wrong", role: "alert", hidden: true });
  const form = h("form", { class: "setting", novalidate: true },
    h("label", { for: "password" }, "Password"),
    h("p", { class: "help", id: "password-help" }, state.password
      ? "One is set: messages are exchanged only with mailboxes that have the same, and with phones that are paired."
      : "None is set: every mailbox and every phone in the network is let in. With one, only mailboxes that have the same, and paired phones."),
    h("div", { class: "edit" }, input, save, remove),
    fixed ? h("p", { class: "locked" }, `Can’t be changed here: it comes from ${state.password_source}.`) : null,
    wrong);
  const change = async (value, said) => {
    wrong.hidden = true;
    save.disabled = true;
    try {
      render(await (await ask("POST", "/admin/new-password", { password: value })).json());
      tell(said);
      byId("password").focus();
    } catch (error) {
      explain(wrong, error);
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
    save.disabled = false;
  };
  input.addEventListener("input", () => {
    save.hidden = input.value === "";
    wrong.hidden = true;
    input.removeAttribute("aria-invalid");
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value) change(input.value, "The password is set.");
  });
  remove?.addEventListener("click", async () => {
    if (await confirmed("Remove the password?", "Every mailbox and every phone in the network is let in then.", "Remove")) change(null, "The password is removed.");
  });
  return form;
}

function phones(state) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const pair = h("button", { type: "button" }, "Pair a phone …");
  pair.addEventListener("click", async () => {
    wrong.hidden = true;
    try {
      await showCode(await (await ask("POST", "/admin/pair-picture")).json());
      render(await (await ask("GET", "/admin/admission")).json());
    } catch (error) {
      explain(wrong, error);
    }
  });
  const devices = state.devices.map((device) => h("li", {},
    h("span", {}, h("b", {}, device.name || "A phone"), " ", h("span", { class: "faint" }, device.last_seen ? `here ${new Date(device.last_seen).toLocaleString("en-GB")}` : "not here since the start")),
    revoker(device, wrong)));
  return h("div", { class: "setting" },
    h("span", { class: "label" }, "Paired phones"),
    h("p", { class: "help" }, devices.length ? "They are let in whatever the password is." : "None. A paired phone is let in whatever the password is."),
    h("ul", { class: "devices", hidden: !devices.length }, ...devices), pair, wrong);
}

function revoker(device, wrong) {
  const button = h("button", { type: "button", "aria-label": `Unpair ${device.name || "this phone"}` }, "Unpair");
  button.addEventListener("click", async () => {
    if (!(await confirmed("Unpair this phone?", `${device.name || "The phone"} has to be paired anew to be let in.`, "Unpair"))) return;
    try {
      await ask("POST", "/admin/revoke", { device: device.device });
      render(await (await ask("GET", "/admin/admission")).json());
      tell("The phone is unpaired.");
    } catch (error) {
      explain(wrong, error);
    }
  });
  return button;
}

/** Shows the code until the user closes it, or it is too old. */
function showCode(invitation) {
  const dialog = byId("pairing");
  const rows = invitation.squares;
  const squares = rows.flatMap((row, y) => [...row].map((dark, x) => (dark === "1" ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  byId("pairing-code").replaceChildren(s("svg", { viewBox: `0 0 ${rows.length} ${rows.length}`, role: "img", "aria-label": "QR code for pairing", "shape-rendering": "crispEdges" }, s("path", { d: squares })));
  say(byId("pairing-uri"), invitation.uri);
  const until = Date.now() + 1000 * invitation.seconds;
  const tick = () => {
    const left = (until - Date.now()) / 1000;
    if (left <= 0) dialog.close();
    else say(byId("pairing-left"), `Good for one phone, for another ${span(Math.ceil(left))}.`);
  };
  tick();
  const ticking = setInterval(tick, 1000);
  dialog.showModal();
  const button = dialog.querySelector("button");
  button.onclick = () => dialog.close();
  button.focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      clearInterval(ticking);
      byId("pairing-code").replaceChildren();
      say(byId("pairing-uri"), "");
      resolve();
    };
  });
}
