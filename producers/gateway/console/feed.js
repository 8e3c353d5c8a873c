// The events of one session, each once and in order, across lost connections.

import { ApiError } from "./api.js";

const SILENCE_MS = 40_000; // heartbeats come every 15 s
const FIRST_WAIT_MS = 300;
const LAST_WAIT_MS = 5_000;
const TRIMMED = 4010;

/** Reads a session's events by WebSocket and resumes behind the last one until the session ends. */
export class Feed {
  #socket = null;
  #timer = null;
  #watchdog = null;
  #tries = 0;
  #isOver = false;

  /**
   * `onEvent(event)` for each event of the session; `onState(state)` with `connecting`, `live`, `lost` or `ended`;
   * `onFailure(message)` when it cannot go on.
   */
  constructor(api, sessionId, { onEvent, onState, onFailure }) {
    this.api = api;
    this.sessionId = sessionId;
    this.lastSeq = 0;
    this.onEvent = onEvent;
    this.onState = onState;
    this.onFailure = onFailure;
    this.wake = () => this.#connectNow();
    window.addEventListener("online", this.wake);
    this.#connect();
    onState("connecting");
  }

  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    window.removeEventListener("online", this.wake);
    this.#socket?.close();
  }

  #connect() {
    const socket = this.api.openSocket(this.sessionId, this.lastSeq);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.#socket && this.#closed(code);
    this.#watch();
  }

  #connectNow() {
    if (this.#isOver || this.#socket) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  // A connection that is silent for longer than heartbeats allow is dead, even if nobody has closed it.
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#drop(), SILENCE_MS);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#retry();
  }

  #receive(event) {
    if (this.#isOver) return;
    this.#watch();
    if (event.type === "gateway.attached") {
      this.#tries = 0;
      this.onState("live");
    } else if (event.type === "gateway.heartbeat") {
      if (event.last_seq > this.lastSeq) this.#drop();
    } else if (event.seq === undefined) {
      this.#fail(event.error?.message ?? `unknown message ${event.type}`);
    } else if (event.seq > this.lastSeq + 1) {
      this.#drop();
    } else if (event.seq === this.lastSeq + 1) {
      this.lastSeq = event.seq;
      this.onEvent(event);
      if (event.type === "session.closed") this.#end();
    }
  }

  #closed(code) {
    this.#socket = null;
    clearTimeout(this.#watchdog);
    if (this.#isOver) return;
    if (code === 1000) this.#end();
    else if (code === TRIMMED) this.#fail("Earlier words are no longer kept by the server.");
    else this.#retry();
  }

  #retry() {
    this.onState("lost");
    this.#tries += 1;
    const wait = Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#tries - 1)) * (0.75 + Math.random() / 2);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connectIfThere(), wait);
  }

  // A browser does not tell why a WebSocket was refused; the same question by HTTP does.
  async #connectIfThere() {
    try {
      await this.api.look(this.sessionId);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#isOver) return;
      if (error.isPassing) this.#retry();
      else this.#fail(error.message);
      return;
    }
    if (!this.#isOver && !this.#socket) this.#connect();
  }

  #end() {
    this.close();
    this.onState("ended");
  }

  #fail(message) {
    this.close();
    this.onFailure(message);
  }
}
