// One translation of the source: what its session's events add up to. No network, no page.

/**
 * @typedef {object} Word a target word
 * @property {string} word bare
 * @property {string} text with the space before it
 * @property {number} segment from 0
 * @property {number} index in its segment, from 0
 * @property {number} base source words before its segment
 * @property {number} read source words read when it was written, counted from the start of the talk
 * @property {number} isNewFrom source words read when the word before it was written
 * @property {number} atMs since `session.created`
 * @property {number} delayMs between the last source word that it needed and itself
 */
export class Lane {
  /** `options`: `{language, policy, k}`. */
  constructor(options) {
    this.options = options;
    this.reset();
  }

  reset() {
    this.sessionId = null;
    this.model = null;
    /** @type {Word[]} */
    this.words = [];
    this.segments = [];
    this.base = 0;
    this.phase = "idle"; // then open, closed or failed
    this.connection = "none";
    this.error = null;
    this.clockMs = Infinity;
  }

  /** Take in one event, which arrived at `nowMs`. */
  apply(event, nowMs) {
    // The event that travelled fastest tells best when the session's clock began.
    if (event.elapsed_ms !== undefined) this.clockMs = Math.min(this.clockMs, nowMs - event.elapsed_ms);
    if (event.type === "session.created") {
      this.phase = "open";
      this.model = event.model;
      this.clockMs = Math.min(this.clockMs, nowMs);
    } else if (event.type === "output_text.delta") this.#write(event);
    else if (event.type === "segment.done") this.#finish(event);
    else if (event.type === "session.closed") this.phase = event.reason === "error" ? "failed" : "closed";
    else if (event.type === "error") this.error = event.message;
    if (event.type === "error" && this.phase === "idle") this.phase = "failed";
  }

  #write({ segment, index, word, text, source_words_read, elapsed_ms, delay_ms }) {
    const read = this.base + source_words_read;
    const before = this.words.at(-1);
    const isNewFrom = before?.segment === segment ? before.read : this.base;
    this.words.push({
      word, text, segment, index, base: this.base, read, isNewFrom, atMs: elapsed_ms, delayMs: delay_ms,
    });
  }

  #finish({ segment, text, source_words, average_lagging }) {
    this.segments.push({ segment, text, base: this.base, sourceWords: source_words, averageLagging: average_lagging });
    this.base += source_words;
  }

  /** The mean AL of the segments that are complete and of the open one so far, in words; null without words. */
  get averageLagging() {
    const lags = this.segments.map((segment) => segment.averageLagging).filter((lag) => lag !== null);
    const open = this.words.filter((word) => word.segment === this.segments.length);
    if (open.length) lags.push(open.reduce((sum, word) => sum + lagWords(word), 0) / open.length);
    return lags.length ? lags.reduce((sum, lag) => sum + lag, 0) / lags.length : null;
  }

  /** The median of `delayMs`; null without words. */
  get medianDelayMs() {
    const sorted = this.words.map((word) => word.delayMs).sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  }
}

/** Source words read before the word, less target words written before it in its segment. */
export function lagWords(word) {
  return word.read - word.base - word.index;
}
