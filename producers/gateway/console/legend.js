// The chart in words: beside its title, and for screen readers.

import { byId, make } from "./dom.js";
import { lagPoints } from "./lag.js";
import { policyName } from "./settings.js";

/** Show the newest lag of each lane. */
export function drawLegend(talk, unit) {
  const entries = talk.lanes.map((lane, i) => {
    const last = lagPoints(talk, lane, unit, 1).at(0);
    return { name: policyName(lane.options), lag: last && format(last.lag, unit), tone: i + 1 };
  });
  const key = JSON.stringify(entries);
  const legend = byId("lag-now");
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  legend.replaceChildren(...entries.map(({ name, lag, tone }) => {
    const entry = make("span", `legend tone-${tone}`, name);
    if (lag) entry.append(" ", make("b", "", lag));
    return entry;
  }));
  const text = entries.map(({ name, lag }) => `${name} ${lag ?? "no word yet"}`).join("; ");
  byId("chart").setAttribute("aria-label", `Lag of each word. Now: ${text}.`);
}

function format(lag, unit) {
  if (unit === "words") return lag === 1 ? "1 word" : `${Math.max(0, lag)} words`;
  return `${Math.max(0, lag).toFixed(1)} s`;
}
