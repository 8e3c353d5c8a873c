// The sessions of this page, side by side in the header.

import { byId, make } from "./dom.js";

const MAX_NAME_CHARS = 22;

/** Draw the list. `onOpen(talk)`, `onClose(talk)`. */
export function drawTalks(talks, current, { onOpen, onClose }) {
  const key = talks.map((talk) => `${nameOf(talk)}/${talk.phase}/${talk === current}`).join("\n");
  const list = byId("talks");
  if (list.dataset.key === key) return; // buttons that are drawn anew lose the focus
  list.dataset.key = key;
  list.hidden = talks.length < 2;
  list.replaceChildren(...talks.map((talk) => {
    const item = make("li", talk === current ? "current" : "");
    const open = make("button", "quiet name", nameOf(talk));
    open.type = "button";
    open.dataset.phase = talk.phase;
    if (talk === current) open.setAttribute("aria-current", "true");
    open.onclick = () => onOpen(talk);
    const close = make("button", "quiet icon", "×");
    close.type = "button";
    close.setAttribute("aria-label", `Close ${nameOf(talk)}`);
    close.onclick = () => onClose(talk);
    item.append(open, close);
    return item;
  }));
  list.querySelector(".current").scrollIntoView({ block: "nearest", inline: "nearest" });
}

function nameOf(talk) {
  if (talk.isSpeech) return "Microphone";
  const text = talk.text.trim().replace(/\s+/g, " ");
  return text.length > MAX_NAME_CHARS ? `${text.slice(0, MAX_NAME_CHARS).trimEnd()}…` : text || "New session";
}
