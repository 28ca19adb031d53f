// The settings: each is changed by itself, at once, and checked by the mailbox as its options are.

import { confirmed } from "./confirm.js";
import { byId, coded, h } from "./dom.js";
import { ask, Refused } from "./session.js";
import { count } from "./words.js";

const FIELDS = [
  { key: "name", label: "Name", help: "For people; it is shown here and in mailboxd status.", placeholder: "Library, 1st floor" },
  { key: "storage-limit", label: "Storage limit", help: "How much to store at the most, for example 2GiB. Empty: all but a reserve of the disk.", placeholder: "none" },
  { key: "retention", label: "Messages live for", help: "A number and s, m, h or d; a week (7d) at the most. Best the same on all mailboxes.", placeholder: "7d" },
  { key: "peer", label: "Internet mailboxes", help: "Mailboxes that are not in this network, one on a line: an address with /p2p/… (mailboxd identity shows it there) or an http(s):// URL.", lines: true, placeholder: "/dns4/mailbox.example.org/tcp/4001/p2p/12D3Koo…" },
];

let tell = () => {};
let holds = () => 0;

/** Builds the form. `say` shows a line to the user, `messages` gives how many are stored now; while `isBusy` nothing is
 *  touched. */
export async function openSettings(say, messages, isBusy) {
  tell = say;
  holds = messages;
  const [shown, atLogin] = await Promise.all(["/admin/settings", AT_LOGIN.path].map(async (path) => (await ask("GET", path)).json()));
  if (isBusy()) return;
  byId("settings").replaceChildren(
    toggled(MODE, shown.paused),
    toggled(AT_LOGIN, atLogin),
    toggled(AWAKE, shown["keep-awake"]),
    ...FIELDS.map((field) => setting(field, shown[field.key])));
}

async function change(key, value) {
  return (await ask("POST", "/admin/settings", { [key]: value })).json();
}

const MODE = {
  key: "paused", inverted: true, label: "Mailbox mode", help: "Serve phones, and announce this mailbox in the network.",
  on: "The mailbox mode is on.", off: "The mailbox mode is off.",
  ask: ["Switch the mailbox mode off?", "Phones can’t leave or fetch messages here until it is on again. What is stored stays, and other mailboxes that are connected still get it.", "Switch off"],
};
const AWAKE = {
  key: "keep-awake", label: "Keep awake", help: "This machine does not go to sleep by itself while the mailbox runs.",
  on: "The machine is kept awake.", off: "The machine may go to sleep.",
};

// The service manager's, not the mailbox's own: it has a route of its own.
const AT_LOGIN = {
  key: "start-at-login", path: "/admin/start-at-login", label: "Start at login", help: "The mailbox starts by itself when you log in; what runs now goes on.",
  on: "The mailbox is started at login.", off: "The mailbox is not started at login any more.",
};

const switched = async (kind, value) => (kind.path ? (await ask("POST", kind.path, { value })).json() : (await change(kind.key, value))[kind.key]);

function toggled(kind, { value, locked, hint }) {
  const id = kind.key === "paused" ? "mode" : kind.key;
  const isOn = (given) => given !== Boolean(kind.inverted);
  const toggle = h("button", { type: "button", class: "switch", role: "switch", id, "aria-checked": String(isOn(value)), "aria-labelledby": `${id}-label`, "aria-describedby": `${id}-help`, disabled: locked !== null });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  toggle.addEventListener("click", async () => {
    const wanted = toggle.getAttribute("aria-checked") !== "true";
    if (!wanted && kind.ask && !(await confirmed(...kind.ask))) return;
    toggle.disabled = true;
    wrong.hidden = true;
    try {
      const shown = await switched(kind, isOn(wanted));
      toggle.setAttribute("aria-checked", String(isOn(shown.value)));
      tell(wanted ? kind.on : kind.off);
    } catch (error) {
      explain(wrong, error);
    }
    toggle.disabled = false;
    toggle.focus();
  });
  return h("div", { class: "setting mode" },
    h("div", {},
      h("span", { class: "label", id: `${id}-label` }, kind.label),
      h("p", { class: "help", id: `${id}-help` }, kind.help, ...(hint && locked === null ? coded(` ${hint.charAt(0).toUpperCase()}${hint.slice(1)}.`) : [])),
      locked && h("p", { class: "locked" }, ...lockedText(locked)),
      wrong),
    toggle);
}

function setting(field, { value, locked }) {
  const id = `setting-${field.key}`;
  const asText = (given) => (field.lines ? given.join("\n") : given);
  const attributes = { id, name: field.key, "aria-describedby": `${id}-help ${id}-wrong`, placeholder: field.placeholder, disabled: locked !== null, autocomplete: "off", spellcheck: "false", maxlength: field.lines ? null : 200 };
  const input = field.lines ? h("textarea", { ...attributes, rows: Math.min(8, Math.max(2, 2 * value.length)) }) : h("input", { ...attributes, type: "text" });
  input.value = asText(value);
  let kept = input.value;
  const save = h("button", { type: "submit", class: "primary", hidden: true }, "Save");
  const wrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert", hidden: true });
  const form = h("form", { class: "setting", novalidate: true },
    h("label", { for: id }, field.label),
    h("p", { class: "help", id: `${id}-help` }, field.help),
    h("div", { class: "edit" }, input, save),
    locked && h("p", { class: "locked" }, ...lockedText(locked)),
    wrong);
  const good = () => {
    wrong.hidden = true;
    input.removeAttribute("aria-invalid");
  };
  input.addEventListener("input", () => {
    save.hidden = input.value === kept;
    good();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = kept;
    save.hidden = true;
    good();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (input.value === kept) return;
    if (field.key === "retention" && !(await agreedToForget(kept, input.value))) return;
    save.disabled = true;
    good();
    try {
      const shown = await change(field.key, given(field, input.value));
      input.value = kept = asText(shown[field.key].value);
      save.hidden = true;
      tell(`${field.label}: saved.`);
      input.focus();
    } catch (error) {
      explain(wrong, error);
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
    save.disabled = false;
  });
  return form;
}

/** What the mailbox is told: null for the default. */
function given(field, text) {
  if (field.lines) {
    const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
    return lines.length ? lines : null;
  }
  return text.trim() || null;
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 86400 };
const seconds = (text) => {
  const found = /^([\d.]+)\s*([smhd])$/.exec(text.trim() || "7d");
  return found ? Number(found[1]) * SECONDS[found[2]] : NaN;
};

async function agreedToForget(before, after) {
  if (!(seconds(after) < seconds(before)) || !holds()) return true;
  return confirmed("Let messages die sooner?", `${count(holds(), "message is", "messages are")} stored here. Those that are older than ${after.trim() || "7d"} are deleted at once, and can’t be brought back from here.`, "Delete the older ones");
}

const lockedText = (why) => coded(`Can’t be changed here: ${why}.`);

export function explain(place, error) {
  place.textContent = error instanceof Refused ? error.message : "The mailbox can’t be reached; nothing was changed.";
  place.hidden = false;
}
