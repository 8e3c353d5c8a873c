// One source text, spoken word by word, and the lanes that translate it.

import { Feed } from "./feed.js";
import { Lane } from "./lane.js";
import { Outbox } from "./outbox.js";
import { Pacer } from "./pacer.js";
import { POLICIES } from "./settings.js";
import { splitWords } from "./split.js";

const IDLE_TIMEOUT_MS = 600_000;
export const MAX_WORDS = 20_000;
export const MAX_LANES = 3;

export class Talk {
  #outbox = null;
  #feeds = [];
  #pacer = null;

  /** `onChange(talk)` after every change of what a view shows. */
  constructor({ text, sourceLanguage, lanes, wordsPerMinute }) {
    this.text = text;
    this.sourceLanguage = sourceLanguage;
    this.lanes = lanes.map((options) => new Lane(options));
    this.wordsPerMinute = wordsPerMinute;
    this.words = []; // {text, atMs}: atMs since the first word, null before it is spoken
    this.phase = "draft"; // starting, speaking, paused, finishing, done
    this.isSpeech = false;
    this.originMs = null;
    this.failure = null;
    this.onChange = () => {};
  }

  /** What `resume` needs, as JSON; times count since the epoch, as another page has another origin of time. */
  get record() {
    const { text, sourceLanguage, wordsPerMinute, words, isSpeech, failure } = this;
    const epoch = performance.timeOrigin;
    return {
      text, sourceLanguage, wordsPerMinute, words, isSpeech, failure,
      phase: this.phase === "starting" ? "draft" : this.phase,
      originMs: this.originMs === null ? null : this.originMs + epoch,
      outbox: this.#outbox?.record ?? null,
      lanes: this.lanes.map(({ options, sessionId, clockMs }) => ({ options, sessionId, clockMs: clockMs + epoch })),
    };
  }

  /**
   * Return the talk with this `record`: what has been written comes again from its sessions, and what is not yet
   * spoken goes on. A recogniser does not outlive its page: the speech ends.
   */
  static resume(api, record) {
    const talk = new Talk({ ...record, lanes: record.lanes.map(({ options }) => options) });
    if (record.phase === "draft" || record.outbox === null) return talk;
    const epoch = performance.timeOrigin;
    Object.assign(talk, { words: record.words, isSpeech: record.isSpeech, failure: record.failure, phase: record.phase });
    talk.originMs = record.originMs === null ? null : record.originMs - epoch;
    talk.#outbox = Outbox.resume(api, record.outbox, { onFailure: (message) => talk.#fail(message) });
    talk.lanes.forEach((lane, i) => {
      const { sessionId, clockMs } = record.lanes[i];
      if (sessionId === null) return;
      lane.sessionId = sessionId;
      lane.clockMs = clockMs === null ? Infinity : clockMs - epoch;
      talk.#feeds.push(talk.#follow(api, lane));
    });
    if (talk.isSpeech) talk.stop();
    else talk.#prepare();
    if (talk.phase === "speaking") talk.#pacer.run();
    return talk;
  }

  get isRunning() {
    return ["starting", "speaking", "paused", "finishing"].includes(this.phase);
  }

  /** Milliseconds since the first word was spoken; 0 before. */
  get elapsedMs() {
    return this.originMs === null ? 0 : performance.now() - this.originMs;
  }

  get numSpoken() {
    const first = this.words.findIndex((word) => word.atMs === null);
    return first < 0 ? this.words.length : first;
  }

  /** When a target word was written, in milliseconds since the first source word was spoken. */
  writtenAtMs(lane, word) {
    return lane.clockMs + word.atMs - this.originMs;
  }

  /** Open a session for each lane and begin to speak the text, or to listen. Throw ApiError. */
  async start(api, { isSpeech = false } = {}) {
    this.#clear();
    this.isSpeech = isSpeech;
    this.words = isSpeech ? [] : splitWords(this.text).map((text) => ({ text, atMs: null }));
    this.phase = "starting";
    this.onChange(this);
    try {
      await this.#open(api);
    } catch (error) {
      this.phase = "draft";
      this.onChange(this);
      throw error;
    }
    this.phase = "speaking";
    if (!isSpeech) {
      this.#prepare();
      this.#pacer.run();
    }
    this.onChange(this);
  }

  async #open(api) {
    const session = {
      source_language: this.sourceLanguage,
      segmentation: "sentence",
      limits: { idle_timeout_ms: IDLE_TIMEOUT_MS },
    };
    const { id, sessions } = await api.openGroup(session, this.lanes.map((lane) => sessionOptions(lane.options)));
    this.#outbox = new Outbox(api, id, { onFailure: (message) => this.#fail(message) });
    this.lanes.forEach((lane, i) => {
      lane.sessionId = sessions[i].id;
      this.#feeds.push(this.#follow(api, lane));
    });
  }

  #follow(api, lane) {
    return new Feed(api, lane.sessionId, {
      onEvent: (event) => {
        lane.apply(event, performance.now());
        this.#settle();
      },
      onState: (state) => {
        lane.connection = state;
        this.#settle();
      },
      onFailure: (message) => {
        lane.phase = "failed";
        lane.connection = "ended";
        lane.error = message;
        this.#settle();
      },
    });
  }

  #prepare() {
    this.#pacer = new Pacer(this.words.map((word) => word.text), {
      wordsPerMinute: this.wordsPerMinute,
      onWord: (index) => {
        this.#say(this.words[index]);
        this.onChange(this);
      },
      onEnd: () => this.stop(),
      next: this.numSpoken,
    });
  }

  #say(word) {
    this.originMs ??= performance.now();
    word.atMs = this.elapsedMs;
    this.#outbox.push({ type: "input_text.append", text: word.text });
  }

  /** Add words that a recogniser has heard. */
  hear(text) {
    if (this.phase !== "speaking") return;
    for (const heard of splitWords(text)) {
      const word = { text: heard, atMs: null };
      this.words.push(word);
      this.#say(word);
    }
    this.onChange(this);
  }

  pause() {
    if (this.phase !== "speaking" || this.isSpeech) return;
    this.#pacer.pause();
    this.phase = "paused";
    this.onChange(this);
  }

  resume() {
    if (this.phase !== "paused") return;
    this.phase = "speaking";
    this.#pacer.run();
    this.onChange(this);
  }

  /** Speak no further; what has been spoken is still translated. */
  stop() {
    if (this.phase !== "speaking" && this.phase !== "paused") return;
    this.#pacer?.pause();
    this.phase = "finishing";
    this.#outbox.push({ type: "input_text.finalize" });
    this.#outbox.push({ type: "session.close" });
    this.#settle();
  }

  setPace(wordsPerMinute) {
    this.wordsPerMinute = wordsPerMinute;
    if (this.#pacer) this.#pacer.wordsPerMinute = wordsPerMinute;
  }

  /** Change a lane; one that is live changes with its next sentence. */
  async change(api, lane, options) {
    const before = lane.options;
    lane.options = { ...options };
    if (!this.isRunning || !lane.sessionId) return;
    try {
      await api.send(lane.sessionId, [{ type: "session.update", session: sessionOptions(options) }]);
    } catch (error) {
      lane.options = before;
      lane.error = error.message;
    }
    this.onChange(this);
  }

  /** Leave the sessions; the worker ends them. */
  close() {
    this.stop();
    this.#feeds.forEach((feed) => feed.close());
    this.#feeds = [];
  }

  #clear() {
    this.#feeds.forEach((feed) => feed.close());
    this.#feeds = [];
    this.#pacer = null;
    this.originMs = null;
    this.failure = null;
    this.lanes.forEach((lane) => lane.reset());
  }

  #fail(message) {
    this.failure = message;
    this.#pacer?.pause();
    this.phase = "done";
    this.onChange(this);
  }

  #settle() {
    const areOver = this.lanes.every((lane) => lane.phase === "closed" || lane.phase === "failed");
    if (areOver && this.isRunning && this.phase !== "starting") {
      this.#pacer?.pause();
      this.phase = "done";
    }
    this.onChange(this);
  }
}

/** The options by which a session translates as the lane says. */
export function sessionOptions({ language, policy, k }) {
  return { target_language: language, ...POLICIES.get(policy).options(k) };
}
