// Getting in, and requests. The cookie is out of our reach; the key, without which it is worth nothing, is kept here.

const STORED = "mailboxd-key";

const key = () => localStorage.getItem(STORED);

export const isSignedIn = () => key() !== null;

export class Refused extends Error {
  constructor(status, text, setting) {
    super(text);
    this.status = status;
    this.setting = setting;
  }
}

/** Exchanges the code in the address, if there is one, and takes it out of there. Throws Refused. */
export async function enter() {
  const code = location.hash.slice(1);
  if (!/^[\w-]{43}$/.test(code)) return;
  history.replaceState(null, "", location.pathname);
  const answer = await fetch("/admin/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code }),
  });
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim());
  localStorage.setItem(STORED, (await answer.json()).key);
}

/** A request of this session. Throws Refused, or TypeError if the mailbox can't be reached. */
export async function ask(method, path, value, signal) {
  const headers = { "x-mailboxd-key": key() ?? "" };
  if (value !== undefined) headers["content-type"] = "application/json";
  const body = value === undefined ? undefined : JSON.stringify(value);
  const answer = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  if (answer.ok) return answer;
  const text = (await answer.text()).trim();
  try {
    const wrong = JSON.parse(text);
    throw new Refused(answer.status, wrong.text, wrong.key);
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(answer.status, text || `the mailbox answered ${answer.status}`);
  }
}

export function forget() {
  localStorage.removeItem(STORED);
}

export async function leave() {
  try {
    await ask("POST", "/admin/logout");
  } finally {
    forget();
  }
}
