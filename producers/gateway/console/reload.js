// What outlives a reload: the talks of the page, for the next page of this tab. No network, no page.

const NAME = "decalage.talks";

/** Keep `{talks, current, announced}`: records of talks, which one is shown, how many of its sentences have been said. */
export function keep(kept) {
  try {
    sessionStorage.setItem(NAME, JSON.stringify(kept));
  } catch {
    // Storage is blocked or full: the next page begins anew, and the sessions end by their idle time-out.
  }
}

/** Return what the page before has kept, once: a second page must not speak for the same sessions. */
export function takeKept() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(NAME));
    sessionStorage.removeItem(NAME);
    return kept ?? { talks: [] };
  } catch {
    return { talks: [] };
  }
}
