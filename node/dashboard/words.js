// Figures and dates as people read them.

const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export const number = (value) => whole.format(value);

export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export function bytes(size) {
  let unit = 0;
  let value = Math.max(0, size);
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** A span of time: "3 minutes", "2 days". */
export function span(seconds) {
  const rounded = Math.max(0, Math.round(seconds));
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (rounded >= (unit === "day" ? 2 : 1) * size) return count(Math.round(rounded / size), unit);
  }
  return count(rounded, "second");
}

export const ago = (time, now) => (now - time < 5 ? "just now" : `${span(now - time)} ago`);

export const short = (id) => id.slice(0, 8);

/** A topic's id, shortened so that two remain apart. */
export function shortTopic(topic) {
  const characters = [...topic].map((c) => (/[\p{C}\p{Z}]/u.test(c) ? "·" : c));
  return characters.length <= 18 ? characters.join("") : `${characters.slice(0, 8).join("")}…${characters.slice(-6).join("")}`;
}

export const clockTime = (time) => new Date(time * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

export const dayTime = (time) =>
  new Date(time * 1000).toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
