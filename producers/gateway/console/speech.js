// The browser's own speech recognition, turned into words that are never taken back.

import { splitWords } from "./split.js";

const Recognition = globalThis.SpeechRecognition ?? globalThis.webkitSpeechRecognition;

/** Whether this browser can recognise speech. */
export const canRecognise = Recognition !== undefined;

/**
 * Turns a recogniser's hypotheses, which it may revise, into words to send: those on which two hypotheses in a row
 * agree, and all of a final one.
 */
export class StablePrefix {
  #before = [];
  #numSent = 0;

  /** Return the new words of the current utterance that are safe to send. */
  take(text, isFinal) {
    const words = splitWords(text);
    let stable = words.length;
    if (!isFinal) {
      stable = 0;
      while (stable < words.length && words[stable] === this.#before[stable]) stable += 1;
    }
    const fresh = words.slice(this.#numSent, stable);
    this.#numSent = isFinal ? 0 : Math.max(this.#numSent, stable);
    this.#before = isFinal ? [] : words;
    return fresh;
  }
}

/** Listen until `stop` of the result is called; `onWords(text)`, and `onEnd(problem)` with null or a text. */
export function listen(language, { onWords, onEnd }) {
  const recognition = new Recognition();
  const prefix = new StablePrefix();
  let isWanted = true;
  let problem = null;
  recognition.lang = language;
  recognition.continuous = true;
  recognition.interimResults = true;
  recognition.onresult = ({ results, resultIndex }) => {
    for (let i = resultIndex; i < results.length; i += 1) {
      const words = prefix.take(results[i][0].transcript, results[i].isFinal);
      if (words.length) onWords(words.join(" "));
      if (!results[i].isFinal) break; // later ones are guesses about what follows a guess
    }
  };
  recognition.onerror = ({ error }) => {
    if (error === "no-speech") return;
    isWanted = false;
    problem = error === "not-allowed" ? "The browser may not use the microphone." : `Speech recognition failed: ${error}.`;
  };
  // Browsers end a recognition after a while of silence.
  recognition.onend = () => (isWanted ? recognition.start() : onEnd(problem));
  recognition.start();
  return {
    stop() {
      isWanted = false;
      recognition.stop();
    },
  };
}
