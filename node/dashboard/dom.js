// Elements from data. Texts are only ever set as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element. `attributes` whose value is null or false are left out; true becomes an empty one. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Likewise, of SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "width%") element.style.width = `${value}%`;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A text's parts; what stands between backticks is to be typed, and shown so. */
export function coded(text) {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return [text]; // one is alone
  return parts.map((part, i) => (i % 2 ? h("code", {}, part) : part)).filter((part) => part !== "");
}

/** Sets a text if it is another one, so that screen readers and selections are not disturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes `items` the children, but only if what they show has changed. */
export function show(element, items) {
  const fresh = document.createDocumentFragment();
  fresh.append(...items);
  const holder = document.createElement(element.tagName);
  holder.append(fresh);
  if (!holder.isEqualNode(cloneOfChildren(element))) element.replaceChildren(...holder.childNodes);
}

function cloneOfChildren(element) {
  const clone = document.createElement(element.tagName);
  clone.append(...[...element.childNodes].map((node) => node.cloneNode(true)));
  return clone;
}
