// Joins the parts: signs in, opens the stream, and shows what comes.

import { openAccess } from "./access.js";
import { showChart } from "./chart.js";
import { byId, say } from "./dom.js";
import { showEvents, showTopics } from "./lists.js";
import { enter, forget, isSignedIn, leave, Refused } from "./session.js";
import { openSettings } from "./settings.js";
import { showState } from "./state.js";
import { follow } from "./stream.js";

const now = { state: null, topics: null, events: null, history: null };
let saidFor = 0;

function toast(text) {
  say(byId("said"), text);
  clearTimeout(saidFor);
  saidFor = setTimeout(() => say(byId("said"), ""), 6000);
}

function link(tone, text) {
  const pill = byId("link");
  pill.dataset.tone = tone;
  say(pill, text);
}

function signedOut(why) {
  forget();
  byId("board").hidden = true;
  byId("sign-out").hidden = true;
  byId("signed-out").hidden = false;
  byId("signed-out-why").hidden = !why;
  say(byId("signed-out-why"), why);
  link("quiet", "signed out");
  document.title = "Mailbox – signed out";
}

const chosenSpan = () => document.querySelector('input[name="span"]:checked').value;

const shown = {
  state: () => now.state && showState(now.state, now.topics),
  topics: () => now.topics && showTopics(now.topics),
  events: () => now.events && showEvents(now.events),
  history: () => now.history && showChart(now.history, chosenSpan()),
};

/** Takes a value of that name and shows it. */
function take(name, value) {
  now[name] = value;
  if (name === "state") {
    byId("board").hidden = false;
    if (now.state.serving !== undefined) link(now.state.serving ? "good" : "quiet", now.state.serving ? "serving phones" : "mailbox mode off");
  }
  if (name === "topics") shown.state();
  if (name === "events") refreshSettings();
  shown[name]();
}

const settled = () => now.events?.find((event) => event.kind === "settings" || event.kind === "access");
let seen = null;
const isBusy = () => Boolean(document.querySelector("#settings :focus, #access :focus, dialog[open]"));

/** Shows settings that were changed elsewhere, unless somebody is at them here. */
function refreshSettings() {
  const last = settled();
  const mark = last ? `${last.number} ${last.times}` : "";
  if (mark === seen || (seen !== null && isBusy())) return;
  if (seen !== null) openForms();
  seen = mark;
}

/** Builds the forms, but under nobody's hands. */
async function openForms() {
  await openSettings(toast, () => now.state?.messages ?? 0, isBusy).catch(() => {});
  await openAccess(toast, isBusy).catch(() => {});
}

async function main() {
  try {
    await enter();
  } catch (error) {
    signedOut(error instanceof Refused ? error.message : "The mailbox can’t be reached.");
    return;
  }
  if (!isSignedIn()) {
    signedOut("");
    return;
  }
  byId("sign-out").hidden = false;
  byId("sign-out").addEventListener("click", async () => {
    await leave().catch(() => {});
    location.reload();
  });
  for (const input of document.querySelectorAll('input[name="span"]')) input.addEventListener("change", shown.history);
  setInterval(() => {
    for (const name of ["state", "events", "history"]) shown[name](); // "3 minutes ago" grows older
  }, 10_000);
  let isUp = false;
  await follow({
    up: async () => {
      if (isUp) return;
      isUp = true;
      await openForms();
    },
    down: () => {
      isUp = false;
      link("warn", "connection lost, trying again");
    },
    out: () => signedOut("You were signed out, or the mailbox was started anew."),
    state: (value) => take("state", value),
    topics: (value) => take("topics", value),
    events: (value) => take("events", value),
    history: (value) => take("history", value),
  });
}

main();
