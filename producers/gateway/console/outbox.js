// Client events on their way to the gateway: numbered, in order, sent again until the gateway has them.

import { ApiError } from "./api.js";

const MAX_EVENTS = 200; // of one call
const FIRST_WAIT_MS = 300;
const LAST_WAIT_MS = 5_000;

export class Outbox {
  #events = [];
  #nextSeq = 1;
  #isSending = false;
  #tries = 0;

  /** `onFailure(message)` when the gateway refuses an event for good; nothing is sent after that. */
  constructor(api, id, { onFailure }) {
    this.api = api;
    this.id = id;
    this.onFailure = onFailure;
    this.hasFailed = false;
  }

  /** Go on where the outbox with this `record` stood. */
  static resume(api, { id, events, nextSeq }, handlers) {
    const outbox = new Outbox(api, id, handlers);
    outbox.#events = events;
    outbox.#nextSeq = nextSeq;
    outbox.#flush();
    return outbox;
  }

  /** What `resume` needs: the events that the gateway may not have, with their numbers. */
  get record() {
    return { id: this.id, events: this.#events, nextSeq: this.#nextSeq };
  }

  /** Number of events that the gateway does not have yet. */
  get backlog() {
    return this.#events.length;
  }

  /** Send an event behind all earlier ones. */
  push(event) {
    this.#events.push({ ...event, seq: this.#nextSeq++ });
    this.#flush();
  }

  // The worker ignores a number that it knows: a call whose answer was lost may be made again.
  async #flush() {
    if (this.#isSending || this.hasFailed) return;
    this.#isSending = true;
    while (this.#events.length && !this.hasFailed) {
      const batch = this.#events.slice(0, MAX_EVENTS);
      try {
        await this.api.send(this.id, batch);
        this.#events.splice(0, batch.length);
        this.#tries = 0;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        await this.#recover(error);
      }
    }
    this.#isSending = false;
  }

  async #recover(error) {
    if (!error.isPassing) {
      this.hasFailed = true;
      this.onFailure(error.message);
      return;
    }
    const wait = Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries);
    this.#tries += 1;
    await new Promise((resume) => setTimeout(resume, Math.max(wait, error.retryAfterS * 1000)));
  }
}
