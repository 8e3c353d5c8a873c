// The points of the lag chart. No page.

import { lagWords } from "./lane.js";

/**
 * Return `{atS, lag, segment, index, word}` of each of the newest `count` target words. In words: source words read less target words written. In
 * seconds: the time since the source word of the same number in the sentence was spoken (the last, where there are
 * fewer).
 */
export function lagPoints(talk, lane, unit, count = Infinity) {
  const first = Math.max(0, lane.words.length - count);
  return lane.words.slice(first).map((word, i) => {
    const atMs = talk.writtenAtMs(lane, word);
    const twin = talk.words[Math.min(word.base + word.index, word.read - 1)];
    const lag = unit === "words" ? lagWords(word) : (atMs - (twin?.atMs ?? atMs)) / 1000;
    return { atS: atMs / 1000, lag, segment: word.segment, index: first + i, word };
  });
}

/** The seconds between the first source word and the first target word; null before that. */
export function firstWordDelayS(talk, lane) {
  const [first] = lane.words;
  return first === undefined || talk.originMs === null ? null : Math.max(0, talk.writtenAtMs(lane, first)) / 1000;
}

/** Return round values from 0 to at least `max`, at most `count` steps apart. */
export function ticks(max, count = 4) {
  const step = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => max / size <= count) ?? max / count;
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, i) => i * step);
}
