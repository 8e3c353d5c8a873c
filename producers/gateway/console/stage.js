// The source lane, the target lanes, and what ties a target word to the source.

import { byId, make, setText } from "./dom.js";
import { lagWords } from "./lane.js";
import { LaneView } from "./lane-view.js";
import { SourceView } from "./source-view.js";
import { separator } from "./split.js";
import { MAX_LANES } from "./talk.js";
import { Ties } from "./ties.js";

const FRESH_MS = 2_000;

export class Stage {
  #talk = null;
  #views = [];
  #selected = null; // {view, index}
  #threads = []; // to draw
  #top = 0; // of the lanes, in pixels

  /** `handlers`: `onOptions`, `onRemove`, `onShare` of a lane; `onAdd()`; `onSelect(word)`, null for none. */
  constructor(handlers) {
    this.handlers = handlers;
    this.source = new SourceView({ onWord: (index) => this.#showUses(index) });
    this.ties = new Ties(byId("ties"), byId("stage"));
    this.lanes = byId("lanes");
    this.add = make("button", "quiet add-lane", "+ Compare with another policy or language");
    this.add.type = "button";
    this.add.onclick = handlers.onAdd;
    window.addEventListener("resize", () => this.ties.clear());
    byId("stage").addEventListener("scroll", () => this.#hold(), true); // scrolling inside a lane does not bubble
  }

  /** Show this talk as it is now. */
  sync(talk) {
    const lanes = this.#views.map((view) => view.lane);
    if (talk !== this.#talk || talk.lanes.some((lane, i) => lane !== lanes[i]) || lanes.length !== talk.lanes.length) {
      this.#build(talk);
    }
    this.source.sync(talk);
    this.#views.forEach((view) => view.sync());
    this.#keepThreads();
    this.#threads.splice(0).forEach((draw) => draw()); // when everything is in its place
    this.add.hidden = talk.isRunning || talk.lanes.length >= MAX_LANES;
    if (this.#selected && !this.#selected.view.lane.words[this.#selected.index]) this.select(null, -1);
    this.#hold();
  }

  /** Show to what the word of a lane is tied; an index below 0 lets go. */
  select(view, index) {
    const word = view?.lane.words[index];
    this.#selected = word ? { view, index } : null;
    this.source.highlight(word, view?.tone);
    this.#views.forEach((other) => other.mark((candidate) => candidate === word));
    this.#hold();
    setText(byId("readout"), word ? this.#describe(view, word) : "");
    this.handlers.onSelect(word ?? null);
  }

  // The thread of the selected word, anew wherever its ends have moved to.
  #hold() {
    if (!this.#selected) return this.ties.release();
    const { view, index } = this.#selected;
    return this.ties.hold(this.source.word(view.lane.words[index].read - 1), view.word(index), view.tone);
  }

  /** The same by the lane's number. */
  selectIn(lane, index) {
    this.select(this.#views[lane], index);
  }

  #describe({ lane }, word) {
    const read = this.#talk.words.slice(word.base, word.read).map(({ text }) => text);
    const text = read.reduce((sentence, next, i) => sentence + separator(read[i - 1] ?? "", next) + next, "");
    const lag = lagWords(word);
    const behind = lag > 0 ? `${lag} ${lag === 1 ? "word" : "words"} behind` : "not behind";
    const at = this.#talk.writtenAtMs(lane, word) / 1000;
    return `“${word.word}” was written after “${text}”: ${behind}, ${word.delayMs} ms after the last word that it needed, at ${at.toFixed(1)} s.`;
  }

  // The other direction: the target words that were written right after a source word had been read.
  #showUses(index) {
    if (index === null) {
      this.select(this.#selected?.view, this.#selected?.index ?? -1);
      return;
    }
    this.#views.forEach((view) => view.mark((word) => word.read === index + 1));
  }

  #build(talk) {
    this.#talk = talk;
    this.#selected = null;
    this.ties.clear();
    setText(byId("readout"), "");
    let isNew = false;
    this.#views = talk.lanes.map((lane, i) => new LaneView(talk, lane, i + 1, {
      ...this.handlers,
      onWord: (view, index) => this.select(view, index),
      onWritten: (view, index) => isNew && this.#flash(view, index),
      onOtherLane: (view, index, step) => this.#walk(view, index, step),
    }));
    isNew = true; // words that were there before the view need no thread
    this.lanes.replaceChildren(...this.#views.map((view) => view.root), this.add);
    this.lanes.dataset.count = talk.lanes.length;
  }

  // Threads do not follow words: those that are there end when the lanes move.
  #keepThreads() {
    const top = this.lanes.offsetTop;
    if (top !== this.#top) this.ties.clear();
    this.#top = top;
  }

  #flash(view, index) {
    const word = view.lane.words[index];
    if (this.#talk.elapsedMs - this.#talk.writtenAtMs(view.lane, word) > FRESH_MS) return; // it has come late, with many
    this.#threads.push(() => this.ties.flash(this.source.word(word.read - 1), view.word(index), view.tone));
  }

  // Go to the word that another lane wrote at about the same point of the source.
  #walk(view, index, step) {
    const other = this.#views[this.#views.indexOf(view) + step];
    if (!other?.lane.words.length) return;
    const { read } = view.lane.words[index];
    const found = other.lane.words.findIndex((word) => word.read >= read);
    other.focus(found < 0 ? other.lane.words.length - 1 : found);
  }
}
