// Small helpers for the page. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Create an element with a class and a text. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Create an SVG element with these attributes. */
export function makeSvg(tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** Set a text only where it differs, so that screen readers and the browser's layout are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show or hide an element. */
export function show(element, isShown) {
  element.hidden = !isShown;
}

/** Fill a select with options `[value, label]` and choose one. */
export function fillSelect(select, options, value) {
  select.replaceChildren(...options.map(([optionValue, label]) => new Option(label, optionValue)));
  select.value = value;
}

/** Scroll `box` so that `element` is in it, without moving the page. */
export function follow(box, element) {
  const outer = box.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + inner.height / 4;
  else if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top;
}
