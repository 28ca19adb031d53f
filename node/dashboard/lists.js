// Topics and events.

import { byId, coded, h, say, show } from "./dom.js";
import { meter } from "./state.js";
import { ago, bytes, count, dayTime, short, shortTopic } from "./words.js";

export function showTopics(topics) {
  const { others } = topics;
  const total = topics.topics.reduce((all, one) => all + one.bytes, others.bytes) || 1;
  const rows = topics.topics.map((one) => topic(h("code", { title: one.topic }, shortTopic(one.topic)), one, total));
  if (others.topics) rows.push(topic(h("span", {}, count(others.topics, "other topic")), others, total, "rest"));
  if (!rows.length) rows.push(h("li", { class: "faint" }, "Nothing is stored yet."));
  show(byId("topics"), rows);
  say(byId("topics-note"), topics.topics.length ? "By size. The names are the app’s ids; who is behind them can’t be told from here." : "");
}

function topic(name, one, total, kind = "") {
  return h("li", { class: kind || null }, name,
    h("span", { class: "size" }, `${count(one.messages, "message")}, ${bytes(one.bytes)}`),
    meter((100 * one.bytes) / total));
}

// kind -> tone, title
const KINDS = {
  started: ["busy", "Started"],
  met: ["good", "Neighbour met"],
  lost: ["quiet", "Neighbour lost"],
  synced: ["good", "Synced"],
  refused: ["bad", "Refused"],
  store: ["bad", "Trouble with the store"],
  settings: ["busy", "Setting changed"],
  access: ["busy", "Signed in"],
};

export function showEvents(events) {
  const now = Date.now() / 1000;
  const rows = events.map((event) => {
    const [tone, title] = KINDS[event.kind] ?? ["quiet", event.kind];
    const about = event.mailbox_id ? ` · ${short(event.mailbox_id)}` : "";
    const again = event.times > 1 && event.kind !== "synced" ? ` (${event.times} times)` : "";
    return h("li", { "data-tone": tone },
      h("i", { "aria-hidden": "true" }),
      h("b", {}, title + about),
      h("time", { datetime: new Date(event.time_s * 1000).toISOString(), title: dayTime(event.time_s) }, ago(event.time_s, now)),
      h("p", {}, ...coded(event.text + again)));
  });
  if (!rows.length) rows.push(h("li", { class: "faint" }, "Nothing yet."));
  show(byId("events"), rows);
}
