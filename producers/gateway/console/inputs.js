// Ways into the page besides its buttons: samples, keys, dropped files, colours.

import { byId, make } from "./dom.js";
import { SAMPLES } from "./samples.js";
import { remember } from "./settings.js";

/** Offer the samples; `onText(text)` for the one that is chosen. */
export function addSamples(onText) {
  byId("samples").append(...SAMPLES.map(({ name, text }) => {
    const button = make("button", "quiet", name);
    button.type = "button";
    button.onclick = () => onText(text);
    return button;
  }));
}

/** Call `onEnter` for Ctrl+Enter anywhere, and `onSpace` for the space bar outside of controls. */
export function bindKeys({ onEnter, onSpace }) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const isInControl = event.target.closest("input, textarea, select, button, summary, a") !== null;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onEnter();
    else if (event.key === " " && !isInControl) onSpace();
    else return;
    event.preventDefault();
  });
}

/** Call `onText(text)` for a file or text dropped anywhere on the page. */
export function bindDrop(onText) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    const text = file ? await file.text() : event.dataTransfer.getData("text/plain");
    if (text.trim()) onText(text.trim());
  });
}

/** Let the button choose light or dark colours; until then the system's choice holds. */
export function bindTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const tell = () => byId("theme").setAttribute("aria-pressed", isDark());
  byId("theme").onclick = () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    remember("theme", document.documentElement.dataset.theme);
    tell();
  };
  system.addEventListener("change", tell);
  tell();
}
