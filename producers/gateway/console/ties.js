// Threads from a target word to the newest source word read when it was written.

import { makeSvg } from "./dom.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Ties {
  #fixed = null;

  /** `svg` lies over `stage` and takes no pointer. */
  constructor(svg, stage) {
    this.svg = svg;
    this.stage = stage;
  }

  /** Draw a thread that fades. */
  flash(source, target, tone) {
    if (calm.matches || document.hidden) return;
    const path = this.#draw(source, target, `flash tone-${tone}`);
    path?.addEventListener("animationend", () => path.remove());
  }

  /** Draw a thread that stays until the next call. */
  hold(source, target, tone) {
    this.release();
    this.#fixed = this.#draw(source, target, `held tone-${tone}`);
  }

  release() {
    this.#fixed?.remove();
    this.#fixed = null;
  }

  clear() {
    this.svg.replaceChildren();
    this.#fixed = null;
  }

  #draw(source, target, className) {
    if (!source?.isConnected || !target?.isConnected) return null;
    const origin = this.stage.getBoundingClientRect();
    const from = visiblePart(source);
    const to = visiblePart(target);
    const [x1, y1] = [(from.left + from.right) / 2 - origin.left, from.bottom - origin.top];
    const [x2, y2] = [(to.left + to.right) / 2 - origin.left, to.top - origin.top];
    const bend = Math.max(12, (y2 - y1) / 2);
    const path = makeSvg("path", {
      d: `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`, class: className, pathLength: 1,
    });
    this.svg.append(path);
    return path;
  }
}

/** The box of a word, moved to the edge of its lane where the lane has scrolled it out of sight. */
function visiblePart(word) {
  const { left, right, top, bottom } = word.getBoundingClientRect();
  const lane = word.parentElement.getBoundingClientRect();
  const clamp = (y) => Math.max(lane.top, Math.min(lane.bottom, y));
  return { left, right, top: clamp(top), bottom: clamp(bottom) };
}
