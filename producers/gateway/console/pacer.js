// Says when each word of a text is spoken.

const SENTENCE_END = /[.!?…。！？]["'»”’)\]]*$/u;
const CLAUSE_END = /[,;:–—、，]$/u;

/** Return how long each word takes, in beats: longer words and pauses take more, the mean is 1. */
export function beats(words) {
  const raw = words.map((word) => 0.55 + Math.min(word.length, 14) / 10
    + (SENTENCE_END.test(word) ? 0.9 : 0) + (CLAUSE_END.test(word) ? 0.35 : 0));
  const mean = raw.reduce((sum, beat) => sum + beat, 0) / (raw.length || 1);
  return raw.map((beat) => beat / mean);
}

/** Speaks words one by one at `wordsPerMinute`, which may change at any time. */
export class Pacer {
  #starts = [];
  #beat = 0;
  #next = 0;
  #timer = null;
  #last = 0;

  /** `onWord(index)` for each word in order, from `next` on; `onEnd()` once, when the last word has been spoken to its end. */
  constructor(words, { wordsPerMinute, onWord, onEnd, next = 0 }) {
    let start = 0;
    for (const beat of beats(words)) {
      this.#starts.push(start);
      start += beat;
    }
    this.total = start;
    this.#next = next;
    this.#beat = this.#starts[next] ?? start;
    this.wordsPerMinute = wordsPerMinute;
    this.onWord = onWord;
    this.onEnd = onEnd;
  }

  get isRunning() {
    return this.#timer !== null;
  }

  /** Speak on from where it stands. */
  run() {
    if (this.isRunning) return;
    this.#last = performance.now();
    this.#tick();
  }

  pause() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  // A hidden tab ticks once a second; the words due meanwhile are then spoken at once.
  #tick() {
    const now = performance.now();
    this.#beat += ((now - this.#last) * this.wordsPerMinute) / 60_000;
    this.#last = now;
    while (this.#next < this.#starts.length && this.#starts[this.#next] <= this.#beat) this.onWord(this.#next++);
    if (this.#next === this.#starts.length && this.#beat >= this.total) {
      this.#timer = null;
      this.onEnd();
      return;
    }
    const due = this.#starts[this.#next] ?? this.total;
    const wait = Math.max(0, ((due - this.#beat) * 60_000) / this.wordsPerMinute);
    this.#timer = setTimeout(() => this.#tick(), Math.min(wait, 100));
  }
}
