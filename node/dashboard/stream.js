// Server-sent events, read with fetch because EventSource can't send the session's key.

import { ask, Refused } from "./session.js";

const SILENCE_MS = 40_000; // the mailbox says something every 15 s
const RETRY_MS = [500, 1000, 2000, 5000, 10_000];

/** Calls `on[name](value)` for each event, `on.up()` and `on.down()` as the connection comes and goes, for ever; ends
 *  with `on.out(why)` when the session is over. */
export async function follow(on) {
  for (let failures = 0; ; ) {
    await visible();
    const stop = new AbortController();
    const hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
    };
    try {
      heard();
      const answer = await ask("GET", "/admin/live", undefined, stop.signal);
      on.up();
      failures = 0;
      for await (const [name, value] of events(answer.body, heard)) on[name]?.(value);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return on.out();
    } finally {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", hide);
    }
    if (document.hidden) continue;
    on.down();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    failures += 1;
  }
}

/** A page that nobody sees lets go: a browser has only six connections to a mailbox, for all its tabs. */
async function visible() {
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name && data) yield [name, JSON.parse(data)];
    }
  }
}
