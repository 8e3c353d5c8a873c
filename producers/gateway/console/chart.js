// The lag of each target word over time, one line a lane.

import { makeSvg } from "./dom.js";
import { lagPoints, ticks } from "./lag.js";

const WINDOW_S = 60;
const MAX_WINDOW_WORDS = 600;
const LEAST_S = 15;
const MARGIN = { top: 10, right: 12, bottom: 22, left: 30 };

export class Chart {
  #points = [];
  #scale = null;

  /** `onPoint(laneIndex, wordIndex)` when the pointer is near a point; `onLeave()` when it has left. */
  constructor(svg, { onPoint, onLeave }) {
    this.svg = svg;
    this.unit = "words";
    this.selected = null; // the `Word` to mark
    svg.addEventListener("pointermove", (event) => this.#point(event, onPoint));
    svg.addEventListener("pointerleave", onLeave);
  }

  /** Draw the talk as it is now. */
  draw(talk) {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    const count = talk.isRunning ? MAX_WINDOW_WORDS : Infinity;
    this.#points = talk.lanes.map((lane) => lagPoints(talk, lane, this.unit, count));
    const all = this.#points.flat();
    const last = Math.max(talk.isRunning ? talk.elapsedMs / 1000 : 0, ...this.#points.map((points) => points.at(-1)?.atS ?? 0));
    const toS = Math.max(LEAST_S, last);
    const fromS = talk.isRunning ? Math.max(0, toS - WINDOW_S) : 0;
    const yTicks = ticks(all.reduce((max, { lag, atS }) => (atS < fromS ? max : Math.max(max, lag)), 4));
    this.#scale = {
      x: (s) => MARGIN.left + ((s - fromS) / (toS - fromS)) * (width - MARGIN.left - MARGIN.right),
      y: (lag) => height - MARGIN.bottom - (lag / yTicks.at(-1)) * (height - MARGIN.top - MARGIN.bottom),
      fromS,
    };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(
      ...this.#grid(yTicks, { fromS, toS, width, height }),
      ...this.#points.flatMap((points, i) => this.#line(points, i + 1)),
      ...this.#marks(),
    );
  }

  #grid(yTicks, { fromS, toS, width, height }) {
    const { x, y } = this.#scale;
    const rows = yTicks.flatMap((value) => [
      makeSvg("path", { class: value ? "grid" : "axis", d: `M${MARGIN.left} ${y(value)}H${width - MARGIN.right}` }),
      makeSvg("text", { class: "tick end", x: MARGIN.left - 8, y: y(value) + 4 }, String(value)),
    ]);
    const step = [5, 10, 20, 60, 120, 300, 600].find((size) => (toS - fromS) / size <= width / 70) ?? 1200;
    const columns = [];
    for (let s = Math.ceil(fromS / step) * step; s <= toS; s += step) {
      columns.push(makeSvg("text", { class: "tick", x: x(s), y: height - 5 }, `${s} s`));
    }
    return [...rows, ...columns];
  }

  #line(points, tone) {
    const { x, y, fromS } = this.#scale;
    let line = "";
    let dots = "";
    let segment = null;
    for (const { atS, lag, segment: now } of points) {
      if (atS < fromS) continue;
      const [px, py] = [x(atS).toFixed(1), y(Math.max(0, lag)).toFixed(1)];
      line += now === segment ? `H${px}V${py}` : `M${px} ${py}`;
      dots += `M${px} ${py}h0`;
      segment = now;
    }
    return [
      makeSvg("path", { class: `line tone-${tone}`, d: line || "M0 0" }),
      makeSvg("path", { class: `dots tone-${tone}`, d: dots || "M-9-9" }),
    ];
  }

  #marks() {
    return this.#points.flatMap((points, i) => points
      .filter(({ word, atS }) => word === this.selected && atS >= this.#scale.fromS)
      .map(({ atS, lag }) => makeSvg("circle", {
        class: `mark tone-${i + 1}`, cx: this.#scale.x(atS), cy: this.#scale.y(Math.max(0, lag)), r: 5,
      })));
  }

  #point(event, onPoint) {
    if (!this.#scale) return;
    const box = this.svg.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    let best = { distance: 24 };
    this.#points.forEach((points, lane) => points.forEach(({ atS, lag, index }) => {
      const distance = Math.hypot(this.#scale.x(atS) - left, this.#scale.y(Math.max(0, lag)) - top);
      if (distance < best.distance) best = { distance, lane, index };
    }));
    if (best.index !== undefined) onPoint(best.lane, best.index);
  }
}
