// What the user has chosen, kept in this browser; and the languages and policies to choose from.

/** Languages by tag, the shipped model's first. */
export const LANGUAGES = new Map([
  ["fr", "French"], ["de", "German"], ["en", "English"], ["ar", "Arabic"], ["bg", "Bulgarian"], ["zh", "Chinese"],
  ["hr", "Croatian"], ["cs", "Czech"], ["da", "Danish"], ["nl", "Dutch"], ["et", "Estonian"], ["fi", "Finnish"],
  ["el", "Greek"], ["he", "Hebrew"], ["hi", "Hindi"], ["hu", "Hungarian"], ["id", "Indonesian"], ["it", "Italian"],
  ["ja", "Japanese"], ["ko", "Korean"], ["lv", "Latvian"], ["lt", "Lithuanian"], ["no", "Norwegian"],
  ["pl", "Polish"], ["pt", "Portuguese"], ["ro", "Romanian"], ["ru", "Russian"], ["sk", "Slovak"],
  ["sl", "Slovenian"], ["es", "Spanish"], ["sv", "Swedish"], ["th", "Thai"], ["tr", "Turkish"],
  ["uk", "Ukrainian"], ["vi", "Vietnamese"],
]);

const count = (k) => (k === 1 ? "1 word" : `${k} words`);

/** Policies by name: the label, a sentence on what it does with a k, the k to begin with (null: it has none), and the session's options for a k. */
export const POLICIES = new Map([
  ["wait-k", {
    label: "wait-k",
    hint: (k) => `Reads ${count(k)}, then writes one word for each word read.`,
    k: 3,
    options: (k) => ({ mode: "streaming", policy: { type: "wait-k", k } }),
  }],
  ["adaptive", {
    label: "adaptive",
    hint: (k) => `Writes as soon as the model is sure, at most ${count(k)} behind.`,
    k: 5,
    options: (k) => ({ mode: "streaming", policy: { type: "adaptive", min_k: 1, max_k: k, threshold: 0.9 } }),
  }],
  ["align-att", {
    label: "align-att",
    hint: (k) => `After ${count(k)}, writes unless the model looks at the newest ones.`,
    k: 1,
    options: (k) => ({ mode: "streaming", policy: { type: "align-att", k, frame_words: 2 } }),
  }],
  ["local-agreement", {
    label: "local agreement",
    hint: (k) => `After ${count(k)}, writes what two translations in a row agree on.`,
    k: 2,
    options: (k) => ({ mode: "streaming", policy: { type: "local-agreement", k, max_ahead_tokens: 16 } }),
  }],
  ["sentence", {
    label: "whole sentence",
    hint: () => "Waits for the end of the sentence, as an offline translator does.",
    k: null,
    options: () => ({ mode: "completion" }),
  }],
]);

/** The lanes of a first visit: the service, and what it is better than. */
const FIRST_LANES = [
  { language: "fr", policy: "wait-k", k: 3 },
  { language: "fr", policy: "sentence", k: null },
];

/** The text of a policy choice: `wait-3`, `adaptive, k = 5`, `whole sentence`. */
export function policyName({ policy, k }) {
  const { label } = POLICIES.get(policy);
  if (policy === "wait-k") return `wait-${k}`;
  return k === null ? label : `${label}, k = ${k}`;
}

/** The value stored under this name, or `fallback` where there is none or storage is blocked. */
export function recall(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`decalage.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** The lanes of the last visit, or the first ones where there are none that this version knows. */
export function recallLanes() {
  const stored = recall("lanes", []);
  const lanes = Array.isArray(stored) ? stored.filter((lane) => POLICIES.has(lane?.policy) && LANGUAGES.has(lane.language)) : [];
  return lanes.length ? lanes : FIRST_LANES;
}

/** Store a value under this name; where storage is blocked it lasts as long as the page. */
export function remember(name, value) {
  try {
    localStorage.setItem(`decalage.${name}`, JSON.stringify(value));
  } catch {
    // Nothing to do: the choice holds until the page is left.
  }
}
