// A lane as a file: plain text, SubRip, WebVTT, JSON.

import { toCues } from "./cues.js";
import { policyName } from "./settings.js";

function timestamp(ms, comma) {
  const part = (value, width = 2) => String(Math.floor(value)).padStart(width, "0");
  const clock = `${part(ms / 3_600_000)}:${part((ms / 60_000) % 60)}:${part((ms / 1000) % 60)}`;
  return `${clock}${comma}${part(ms % 1000, 3)}`;
}

/** WebVTT reads these three as markup. */
function escapeVtt(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

const sentences = (talk, lane) => {
  const lines = new Map();
  for (const word of lane.words) lines.set(word.segment, (lines.get(word.segment) ?? "") + word.text);
  return [...lines.values()].map((line) => line.trim());
};

const timed = (talk, lane) => lane.words.map((word) => ({ ...word, atMs: talk.writtenAtMs(lane, word) }));

export const FORMATS = {
  txt: { type: "text/plain", write: (talk, lane) => sentences(talk, lane).map((line) => `${line}\n`).join("") },
  srt: {
    type: "application/x-subrip",
    write: (talk, lane) => toCues(timed(talk, lane)).map(({ fromMs, toMs, text }, i) =>
      `${i + 1}\n${timestamp(fromMs, ",")} --> ${timestamp(toMs, ",")}\n${text}\n`).join("\n"),
  },
  vtt: {
    type: "text/vtt",
    write: (talk, lane) => `WEBVTT\n\n${toCues(timed(talk, lane)).map(({ fromMs, toMs, text }) =>
      `${timestamp(fromMs, ".")} --> ${timestamp(toMs, ".")}\n${escapeVtt(text)}\n`).join("\n")}`,
  },
  json: {
    type: "application/json",
    write: (talk, lane) => `${JSON.stringify({
      session: lane.sessionId,
      model: lane.model,
      source_language: talk.sourceLanguage,
      target_language: lane.options.language,
      policy: policyName(lane.options),
      average_lagging: lane.averageLagging,
      source: talk.words.slice(0, talk.numSpoken).map(({ text, atMs }) => ({ word: text, at_ms: Math.round(atMs) })),
      target: timed(talk, lane).map(({ word, text, segment, index, read, base, atMs, delayMs }) => ({
        word, text, segment, index, source_words_read: read - base, at_ms: Math.round(atMs), delay_ms: delayMs,
      })),
    }, null, 2)}\n`,
  },
};

/** Hand the lane to the browser as a file. */
export function download(talk, lane, format) {
  const { type, write } = FORMATS[format];
  const url = URL.createObjectURL(new Blob([write(talk, lane)], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `decalage-${lane.options.language}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
