// The source lane: a text to edit, then words that are spoken one by one.

import { byId, follow, make, show } from "./dom.js";
import { separator } from "./split.js";

export class SourceView {
  #spans = [];
  #numSpoken = 0;
  #talk = null;

  /** `onWord(index)` when the pointer is on a source word, null when it has left. */
  constructor({ onWord }) {
    this.area = byId("text");
    this.box = byId("source-words");
    this.box.addEventListener("pointerover", ({ target }) => {
      const index = this.#spans.indexOf(target);
      if (index >= 0) onWord(index);
    });
    this.box.addEventListener("pointerleave", () => onWord(null));
  }

  /** Show this talk as it is now. */
  sync(talk) {
    if (talk !== this.#talk || talk.words.length < this.#spans.length || talk.numSpoken < this.#numSpoken) {
      this.#talk = talk;
      this.#clear();
    }
    const isDraft = talk.phase === "draft";
    show(this.area, isDraft);
    show(this.box, !isDraft);
    if (isDraft) {
      if (this.area.value !== talk.text) this.area.value = talk.text;
      return;
    }
    this.box.lang = talk.sourceLanguage;
    while (this.#spans.length < talk.words.length) this.#append(talk.words);
    this.#speak(talk.numSpoken);
  }

  /** The element of a word, if it is there. */
  word(index) {
    return this.#spans[index];
  }

  /** Mark the words read for a target word, those that the word before it did not have, and the newest; or none. */
  highlight(word, tone = 1) {
    this.box.dataset.tone = tone;
    this.#spans.forEach((span, i) => {
      span.classList.toggle("read", Boolean(word) && i >= word.base && i < word.read);
      span.classList.toggle("new", Boolean(word) && i >= word.isNewFrom && i < word.read);
      span.classList.toggle("newest", Boolean(word) && i === word.read - 1);
    });
    this.box.classList.toggle("tied", Boolean(word));
  }

  #append(words) {
    const index = this.#spans.length;
    const span = make("span", "", words[index].text);
    this.#spans.push(span);
    this.box.append(separator(words[index - 1]?.text, words[index].text), span);
  }

  #speak(numSpoken) {
    if (numSpoken === this.#numSpoken) return;
    this.#spans[this.#numSpoken - 1]?.classList.remove("now");
    for (let i = this.#numSpoken; i < numSpoken; i += 1) this.#spans[i].classList.add("said");
    this.#spans[numSpoken - 1].classList.add("now");
    follow(this.box, this.#spans[numSpoken - 1]);
    this.#numSpoken = numSpoken;
  }

  #clear() {
    this.#spans = [];
    this.#numSpoken = 0;
    this.box.replaceChildren();
    this.box.classList.remove("tied");
  }
}
