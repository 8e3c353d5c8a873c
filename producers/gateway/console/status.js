// One line on how things stand between this page, the gateway and the workers.

import { byId, setText } from "./dom.js";

const POLL_MS = 10_000;
const RESUMED_MS = 5_000;

const TEXTS = {
  connecting: "Connecting",
  ready: "Ready",
  waiting: "Waiting for a worker",
  away: "The gateway does not answer",
  live: "Live",
  lost: "Connection lost. Resuming.",
  resumed: "Resumed. No word was lost.",
};

export class Status {
  #service = "connecting";
  #wasLost = false;
  #resumedAt = -Infinity;

  constructor() {
    this.#poll();
  }

  /** Show the state of these talks, or of the service where none is running. */
  sync(talks) {
    const lanes = talks.filter((talk) => talk.isRunning).flatMap((talk) => talk.lanes);
    const isLost = lanes.some((lane) => lane.connection === "lost");
    if (this.#wasLost && !isLost && lanes.length) this.#resumedAt = performance.now();
    this.#wasLost = isLost;
    this.#show(isLost ? "lost" : this.#stateOf(lanes));
  }

  #stateOf(lanes) {
    if (performance.now() - this.#resumedAt < RESUMED_MS) return "resumed";
    return lanes.some((lane) => lane.connection === "live") ? "live" : this.#service;
  }

  #show(state) {
    byId("status").dataset.state = state;
    setText(byId("status-text"), TEXTS[state]);
  }

  async #poll() {
    if (!document.hidden) {
      try {
        const answer = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(5_000) });
        this.#service = answer.ok ? "ready" : "waiting";
      } catch {
        this.#service = "away";
      }
    }
    setTimeout(() => this.#poll(), this.#service === "ready" ? POLL_MS : POLL_MS / 5);
  }
}
