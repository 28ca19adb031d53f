// How it is: the head, the verdict, the figures, the other mailboxes.

import { byId, coded, h, say, show } from "./dom.js";
import { ago, bytes, count, dayTime, number, short, span } from "./words.js";

// standing -> tone, word, and what to do about it where the reason does not say
const STANDINGS = {
  same: ["good", "Holds the same", ""],
  syncing: ["busy", "Syncing", ""],
  behind: ["busy", "Catching up", ""],
  new: ["quiet", "Not met yet", ""],
  away: ["quiet", "Away", "asleep, switched off or in another network"],
  unreachable: ["warn", "Can’t be reached", ""],
  "full-here": ["bad", "No room here", ""],
  "full-there": ["warn", "No room there", "its storage limit is reached, or its disk is full"],
  "kept-out": ["bad", "Not let in", ""],
  clock: ["bad", "Clock is off", ""],
  network: ["warn", "Another network", ""],
  version: ["warn", "Another version", ""],
  refused: ["bad", "Refused", ""],
};
const TROUBLE = ["full-here", "kept-out", "clock", "network", "version", "refused", "full-there", "unreachable"];

const sum = (standings, names) => names.reduce((total, name) => total + (standings[name] ?? 0), 0);

function verdict(state) {
  const { standings } = state;
  const same = standings.same ?? 0;
  const busy = sum(standings, ["syncing", "behind"]);
  const trouble = sum(standings, TROUBLE);
  const away = standings.away ?? 0;
  const aside = (away ? ` ${count(away, "mailbox is away", "mailboxes are away")}.` : "")
    + (state.strangers ? ` ${count(state.strangers, "mailbox here belongs", "mailboxes here belong")} to others.` : "");
  if (!state.serving) {
    return ["quiet", "The mailbox mode is off", "Phones are not served and the mailbox is not announced. What it holds is kept."];
  }
  if (state.full) {
    return ["bad", "The disk is full", "New messages are refused, those that are here can be fetched. Make room on the disk."];
  }
  if (state.at_limit) {
    const gone = state.evicted ? ` ${count(state.evicted, "message was", "messages were")} let go so far.` : "";
    return ["warn", "The storage limit is reached", `The oldest messages of whoever has most here give way to new ones.${gone}`];
  }
  if (trouble) {
    const well = same ? ` ${count(same, "other holds", "others hold")} the same.` : "";
    return ["warn", `${count(trouble, "mailbox needs", "mailboxes need")} a look`, `The list below says what keeps ${trouble === 1 ? "it" : "them"} apart.${well}${aside}`];
  }
  if (busy) return ["busy", `Catching up with ${count(busy, "mailbox", "mailboxes")}`, `${same ? `${count(same, "other holds", "others hold")} the same already.` : "This takes a moment."}${aside}`];
  if (same) return ["good", `${number(same + 1)} mailboxes hold the same`, `What is left at one can be picked up at any other.${aside}`];
  return ["quiet", state.strangers ? "No mailbox to keep in step with is here now" : "No other mailbox is here now", `Phones can leave and fetch messages all the same.${aside}`];
}

function figures(state, topics, now) {
  const { relayed, room } = state;
  const used = room ? Math.min(1, Math.max(0, 1 - room.free_bytes / room.of_bytes)) : 0;
  const limit = state.storage_limit;
  const storage = limit !== null
    ? `of ${bytes(limit)} allocated; the messages themselves: ${bytes(state.bytes)}`
    : room ? `${bytes(room.free_bytes)} free on this disk` : "";
  const expiry = topics?.oldest_s
    ? `The oldest is from ${dayTime(topics.oldest_s)}; the next one expires ${topics.next_expiry_s > now ? `in ${span(topics.next_expiry_s - now)}` : "now"}.`
    : `Each lives for ${span(state.retention_s)}.`;
  return [
    tile("Messages now", number(state.messages), expiry),
    tile("Storage", bytes(limit !== null ? state.used_bytes : state.bytes), storage, room && meter(100 * used, used > 0.97 ? "bad" : used > 0.85 ? "warn" : "")),
    pair("Relayed for phones", [relayed.stored, "left here"], [relayed.served, "fetched here"]),
    pair("Relayed between mailboxes", [relayed.synced_in, "received"], [relayed.synced_out, "sent"]),
  ];
}

const tile = (name, big, note, extra) => h("div", {}, h("dt", {}, name), h("dd", {}, h("div", { class: "big" }, big), extra, h("div", { class: "note" }, note)));

const pair = (name, ...rows) => h("div", {}, h("dt", {}, name), h("dd", { class: "pair" }, ...rows.flatMap(([value, word]) => [h("b", {}, number(value)), h("span", {}, word)])));

export const meter = (percent, tone = "") => h("div", { class: `meter ${tone}`.trim(), "aria-hidden": "true" }, h("i", { "width%": Math.max(0, Math.min(100, percent)).toFixed(1) }));

function neighbour(one, now) {
  const [usual, word, remedy] = STANDINGS[one.standing] ?? ["quiet", one.standing, ""];
  const tone = one.strange ? "quiet" : usual;
  const title = one.mailbox_id ? `Mailbox ${short(one.mailbox_id)}` : "Plain mailbox";
  const parts = [];
  if (one.progress && one.progress.expected) parts.push(`${number(one.progress.received)} of ${count(one.progress.expected, "message")} received`);
  else if (one.standing !== "same" && one.reason) parts.push(one.reason.replace(`${short(one.mailbox_id)} `, ""));
  if (remedy) parts.push(remedy);
  if (one.last_sync_s !== null) parts.push(`last in step ${ago(one.last_sync_s, now)}`);
  if (one.bytes_in + one.bytes_out) parts.push(`${bytes(one.bytes_in)} in, ${bytes(one.bytes_out)} out`);
  return h("li", { "data-tone": tone },
    h("span", { class: "sign", "aria-hidden": "true" }),
    h("span", {}, h("b", {}, title), h("span", { class: "id" }, host(one.address))),
    h("span", { class: "pill" }, word),
    h("span", { class: "why" }, ...coded(capital(parts.join(" · ")))));
}

/** `192.168.1.5:4001` of a multiaddr, or the URL as it is. */
function host(address) {
  const found = /^\/(ip4|ip6|dns4|dns6|dns)\/([^/]+)\/tcp\/(\d+)/.exec(address ?? "");
  return found ? (found[1] === "ip6" ? `[${found[2]}]:${found[3]}` : `${found[2]}:${found[3]}`) : address ?? "";
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function showState(state, topics) {
  const now = Date.now() / 1000;
  const title = state.name || `Mailbox ${short(state.mailbox_id)}`;
  say(byId("name"), title);
  document.title = `${title} – mailbox`;
  const url = state.urls.find((one) => !/\/\/(127\.|\[::1\]|localhost)/.test(one)) ?? state.urls[0];
  say(byId("about"), `${short(state.mailbox_id)} · ${state.serving ? `phones reach it at ${url ?? "no address"}` : "phones are not served"}`);
  say(byId("version"), `mailboxd ${state.version}, running since ${dayTime(state.started_s)}`);
  const [tone, headline, text] = verdict(state);
  byId("verdict").dataset.tone = tone;
  say(byId("verdict-title"), headline);
  say(byId("verdict-text"), text.trim());
  show(byId("figures"), figures(state, topics, now));
  const known = state.neighbours.map((one) => neighbour(one, now));
  if (!known.length) {
    known.push(h("li", { class: "none" }, "None yet. Others in the same network are found by themselves; one elsewhere can be named in the settings."));
  }
  show(byId("neighbours"), known);
  const more = Object.values(state.standings).reduce((a, b) => a + b, state.strangers) - state.neighbours.length;
  byId("neighbours-more").hidden = more <= 0;
  say(byId("neighbours-more"), more > 0 ? `and ${count(more, "other")}; mailboxd peers lists all` : "");
}
