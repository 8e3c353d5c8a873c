// Captions for a listener: one session, large, its last two lines.

import { Api } from "./api.js";
import { byId, make, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { recall, remember } from "./settings.js";

const NUM_SENTENCES_KEPT = 6;
const SIZES = { min: 60, max: 220, step: 20 };
const STATES = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost. Resuming.",
  ended: "The talk has ended.",
};

/** Follow the session that a listener's token reads. */
export function openCaptions(token) {
  document.title = "Captions · Décalage";
  document.documentElement.classList.add("listening");
  byId("captions").hidden = false;
  bindControls();
  const captions = new Captions(byId("caption-lines"), byId("caption-log"));
  const status = byId("caption-status");
  const tell = (state, text) => {
    status.dataset.state = state;
    setText(status.lastElementChild, text);
  };
  new Feed(new Api(token), token.split("~")[0], {
    onEvent: (event) => captions.apply(event),
    onState: (state) => tell(state, STATES[state]),
    onFailure: (message) => tell("lost", message),
  });
}

class Captions {
  #line = null;
  #segment = null;

  constructor(lines, log) {
    this.lines = lines;
    this.log = log;
    this.lines.append(make("p", "waiting", "Captions appear here when somebody speaks."));
  }

  apply(event) {
    if (event.type === "session.created" || event.type === "session.updated") {
      const language = event.session.target_language ?? "";
      this.lines.lang = language;
      this.log.lang = language;
    } else if (event.type === "output_text.delta") this.#write(event);
    else if (event.type === "segment.done" && event.text) {
      this.log.append(make("p", "", event.text));
      if (this.log.childElementCount > NUM_SENTENCES_KEPT) this.log.firstElementChild.remove();
    } else if (event.type === "error") this.log.append(make("p", "", event.message));
  }

  // A sentence is a block of its own: words that come later never move those that are there.
  #write({ segment, text, word }) {
    if (segment !== this.#segment) {
      this.#segment = segment;
      this.lines.querySelector(".waiting")?.remove();
      this.#line = make("p");
      this.#line.dir = "auto";
      this.lines.append(this.#line);
      if (this.lines.childElementCount > NUM_SENTENCES_KEPT) this.lines.firstElementChild.remove();
    }
    const blank = text.slice(0, text.length - text.trimStart().length);
    this.#line.append(this.#line.childNodes.length ? blank : "", make("span", "", word));
  }
}

function bindControls() {
  const resize = (step) => {
    const size = Math.max(SIZES.min, Math.min(SIZES.max, recall("captionSize", 100) + step));
    remember("captionSize", size);
    byId("captions").style.setProperty("--size", size / 100);
  };
  resize(0);
  byId("smaller").onclick = () => resize(-SIZES.step);
  byId("larger").onclick = () => resize(SIZES.step);
  const button = byId("full-screen");
  button.hidden = !document.fullscreenEnabled;
  button.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : byId("captions").requestFullscreen());
  document.addEventListener("fullscreenchange", () => {
    setText(button, document.fullscreenElement ? "Leave full screen" : "Full screen");
  });
}
