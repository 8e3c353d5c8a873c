// Words of a text, as the worker counts them.

// Thai, Lao, Burmese, Khmer, Han, Kana and full-width punctuation: one word a character.
const SPACELESS = new RegExp(
  "[\\u0E00-\\u0EFF\\u1000-\\u109F\\u1780-\\u17FF\\u2E80-\\u2FDF\\u3001-\\u30FF\\u31F0-\\u31FF\\u3400-\\u4DBF\\u4E00-\\u9FFF"
  + "\\uF900-\\uFAFF\\uFF01-\\uFF0F\\uFF1A-\\uFF20\\uFF3B-\\uFF9F\\u{20000}-\\u{3FFFF}]", "u");
const OPENING = /^[\p{Ps}\p{Pi}]$/u;
const ATTACHED = /^[\p{M}\p{P}]$/u;
const INVISIBLE = /^\p{Cf}*$/u;

/** Whether a word ends between two neighbouring characters. */
function breaks(left, right) {
  if (!SPACELESS.test(left) && !SPACELESS.test(right)) return false;
  if (OPENING.test(left)) return false;
  return OPENING.test(right) || !ATTACHED.test(right);
}

/** Split a text into words: at white space; in scripts without spaces, one word a character with its punctuation. */
export function splitWords(text) {
  const words = [];
  for (const run of text.split(/\s+/u)) {
    let word = "";
    let last = "";
    for (const char of run) {
      if (word && breaks(last, char)) {
        words.push(word);
        word = "";
      }
      word += char;
      last = char;
    }
    if (!INVISIBLE.test(word)) words.push(word);
  }
  return words;
}

/** The text between two words: nothing in scripts without spaces. */
export function separator(left, right) {
  return !left || (SPACELESS.test(left) && SPACELESS.test(right)) ? "" : " ";
}
