// The two dialogs: a listener's link, and the gateway's key.

import { byId, setText } from "./dom.js";

/** Show a listener's link, to copy or to open. */
export function showLink(url) {
  const field = byId("share-url");
  const copy = byId("share-copy");
  field.value = url;
  byId("share-open").href = url;
  setText(copy, "Copy");
  copy.onclick = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(url);
      setText(copy, "Copied");
    } catch {
      setText(copy, "Press Ctrl C"); // browsers without a clipboard here: the text is selected
    }
  };
  byId("share-dialog").showModal();
}

/** Ask for a key and return it. */
export function askForKey() {
  const dialog = byId("key-dialog");
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      resolve(byId("key").value.trim());
      byId("key").value = "";
    };
  });
}
