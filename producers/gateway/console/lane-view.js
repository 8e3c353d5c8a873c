// One target lane on the page.

import { byId, fillSelect, follow, make, setText, show } from "./dom.js";
import { download } from "./export.js";
import { firstWordDelayS } from "./lag.js";
import { LANGUAGES, POLICIES, policyName } from "./settings.js";

const formatMs = (ms) => (ms === null ? "–" : ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

export class LaneView {
  #spans = [];

  /**
   * `tone`: 1 to 3, its colour. `handlers`: `onOptions(lane, options)`, `onRemove(lane)`, `onShare(lane)`,
   * `onWord(view, index)` (null: none), `onWritten(view, index)` for each new word, `onOtherLane(view, index, step)`.
   */
  constructor(talk, lane, tone, handlers) {
    this.talk = talk;
    this.lane = lane;
    this.tone = tone;
    this.handlers = handlers;
    this.root = byId("lane-template").content.firstElementChild.cloneNode(true);
    this.root.classList.add(`tone-${tone}`);
    this.parts = Object.fromEntries(["lane-title", "language", "policy", "k", "k-value", "remove", "hint", "target",
      "lane-error", "lane-foot", "al", "first", "delay", "share", "menu"].map((name) => [name, this.root.querySelector(`.${name}`)]));
    fillSelect(this.parts.language, [...LANGUAGES], lane.options.language);
    fillSelect(this.parts.policy, [...POLICIES].map(([name, { label }]) => [name, label]), lane.options.policy);
    this.#bindControls();
    this.#bindWords();
    this.sync();
  }

  get name() {
    return `${LANGUAGES.get(this.lane.options.language)}, ${policyName(this.lane.options)}`;
  }

  /** Show the lane as it is now. */
  sync() {
    const { lane, parts } = this;
    if (lane.words.length < this.#spans.length) this.#clear();
    while (this.#spans.length < lane.words.length) this.#append(this.#spans.length);
    setText(parts["lane-title"], this.name);
    this.#syncOptions();
    setText(parts.al, lane.averageLagging === null ? "–" : `${lane.averageLagging.toFixed(1)} words`);
    const first = firstWordDelayS(this.talk, lane);
    setText(parts.first, first === null ? "–" : `${first.toFixed(1)} s`);
    setText(parts.delay, formatMs(lane.medianDelayMs));
    setText(parts["lane-error"], lane.error ?? "");
    show(parts["lane-error"], lane.error !== null);
    show(parts["lane-foot"], lane.sessionId !== null);
    this.root.classList.toggle("lost", lane.connection === "lost");
  }

  #syncOptions() {
    const { lane, parts } = this;
    const { language, policy, k } = lane.options;
    parts.language.value = language;
    parts.policy.value = policy;
    show(parts.k, k !== null);
    if (k !== null && document.activeElement !== parts["k-value"]) parts["k-value"].value = k;
    setText(parts.hint, POLICIES.get(policy).hint(k));
    show(parts.hint, !lane.words.length);
    show(parts.target, lane.words.length > 0);
    parts.target.lang = language;
    parts.target.setAttribute("aria-label", `Translation: ${this.name}`);
    show(parts.remove, this.talk.lanes.length > 1 && !this.talk.isRunning);
  }

  /** The element of a word, if it is there. */
  word(index) {
    return this.#spans[index];
  }

  /** Mark the words for which `isMarked(word)`. */
  mark(isMarked) {
    this.#spans.forEach((span, i) => span.classList.toggle("tied-word", isMarked(this.lane.words[i])));
  }

  /** Move the focus to a word. */
  focus(index) {
    const span = this.#spans[Math.max(0, Math.min(index, this.#spans.length - 1))];
    if (!span) return;
    this.root.querySelector('.target [tabindex="0"]')?.setAttribute("tabindex", "-1");
    span.tabIndex = 0;
    span.focus({ preventScroll: true });
    follow(this.parts.target, span);
  }

  #append(index) {
    const { text, segment, word } = this.lane.words[index];
    const isNewSentence = index > 0 && segment !== this.lane.words[index - 1].segment;
    const span = make("span", "", word);
    span.tabIndex = index === 0 ? 0 : -1;
    this.#spans.push(span);
    // `text` begins with the space that belongs before the word, except at the start of a sentence.
    this.parts.target.append(isNewSentence ? " " : text.slice(0, text.length - text.trimStart().length), span);
    follow(this.parts.target, span);
    this.handlers.onWritten(this, index);
  }

  #clear() {
    this.#spans = [];
    this.parts.target.replaceChildren();
  }

  #bindControls() {
    const { parts, lane, handlers } = this;
    const change = (patch) => handlers.onOptions(lane, { ...lane.options, ...patch });
    parts.language.onchange = () => change({ language: parts.language.value });
    parts.policy.onchange = () => change({ policy: parts.policy.value, k: POLICIES.get(parts.policy.value).k });
    parts["k-value"].onchange = () => {
      const k = Math.round(Number(parts["k-value"].value));
      const { min, max } = parts["k-value"];
      parts["k-value"].value = Math.max(Number(min), Math.min(Number(max), k || 1));
      change({ k: Number(parts["k-value"].value) });
    };
    parts.remove.onclick = () => handlers.onRemove(lane);
    parts.share.onclick = () => handlers.onShare(lane);
    parts.menu.addEventListener("click", ({ target }) => {
      if (!target.dataset.format) return;
      download(this.talk, lane, target.dataset.format);
      parts.menu.open = false;
    });
    parts.menu.addEventListener("focusout", ({ relatedTarget }) => {
      if (!parts.menu.contains(relatedTarget)) parts.menu.open = false;
    });
  }

  #bindWords() {
    const { target } = this.parts;
    const indexOf = (element) => this.#spans.indexOf(element);
    const tie = (event) => indexOf(event.target) >= 0 && this.handlers.onWord(this, indexOf(event.target));
    target.addEventListener("pointerover", tie);
    target.addEventListener("focusin", tie);
    target.addEventListener("click", ({ target: element }) => indexOf(element) >= 0 && this.focus(indexOf(element)));
    target.addEventListener("pointerleave", () => this.handlers.onWord(this, indexOf(document.activeElement)));
    target.addEventListener("focusout", () => this.handlers.onWord(this, -1));
    target.addEventListener("keydown", (event) => this.#walk(event, indexOf(document.activeElement)));
  }

  #walk(event, index) {
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const forward = getComputedStyle(this.parts.target).direction === "rtl" ? -1 : 1;
    const steps = { ArrowRight: forward, ArrowLeft: -forward, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.focus(index + steps[event.key]);
    else if (event.key === "ArrowUp") this.handlers.onOtherLane(this, index, -1);
    else if (event.key === "ArrowDown") this.handlers.onOtherLane(this, index, 1);
    else if (event.key === "Escape") document.activeElement.blur();
    else return;
    event.preventDefault();
  }
}
