// Target words as caption cues: short, broken at sentences, at most two lines.

const MAX_LINE_CHARS = 42;
const MAX_CUE_MS = 6_000;
const MIN_CUE_MS = 800;
const HOLD_MS = 1_500;

/** Return cues `{fromMs, toMs, text}` of words `{text, segment, atMs}`. */
export function toCues(words) {
  const groups = [];
  for (const word of words) {
    const group = groups.at(-1);
    const isFull = group && (group[0].segment !== word.segment
      || textOf([...group, word]).length > 2 * MAX_LINE_CHARS || word.atMs - group[0].atMs > MAX_CUE_MS);
    if (!group || isFull) groups.push([word]);
    else group.push(word);
  }
  return groups.map((group, i) => {
    const fromMs = Math.max(0, group[0].atMs);
    const end = Math.max(group.at(-1).atMs + HOLD_MS, fromMs + MIN_CUE_MS);
    const next = groups[i + 1]?.[0].atMs ?? Infinity;
    return { fromMs, toMs: Math.max(fromMs + 1, Math.min(end, next)), text: wrap(textOf(group)) };
  });
}

function textOf(words) {
  return words.map((word) => word.text).join("").trim();
}

/** Break a text into two lines near its middle where it is too long for one. */
export function wrap(text) {
  if (text.length <= MAX_LINE_CHARS) return text;
  const blanks = [...text.matchAll(/ /g)].map((match) => match.index);
  if (!blanks.length) return text;
  const middle = text.length / 2;
  const at = blanks.reduce((best, index) => (Math.abs(index - middle) < Math.abs(best - middle) ? index : best));
  return `${text.slice(0, at)}\n${text.slice(at + 1)}`;
}
