// The console: sessions side by side, what the user does with them, and when the page is drawn.

import { Api, ApiError } from "./api.js";
import { Chart } from "./chart.js";
import { askForKey, showLink } from "./dialogs.js";
import { byId, fillSelect, setText, show } from "./dom.js";
import { addSamples, bindDrop, bindKeys, bindTheme } from "./inputs.js";
import { Lane } from "./lane.js";
import { drawLegend } from "./legend.js";
import { SAMPLES } from "./samples.js";
import { keep, takeKept } from "./reload.js";
import { LANGUAGES, recall, recallLanes, remember } from "./settings.js";
import { canRecognise, listen } from "./speech.js";
import { Stage } from "./stage.js";
import { Status } from "./status.js";
import { drawTalks } from "./talk-list.js";
import { MAX_WORDS, Talk } from "./talk.js";
import { drawTransport } from "./transport.js";

const CHART_MS = 100;
const KEY = "decalage.key"; // in sessionStorage: gone with the tab

class Console {
  #api = new Api(sessionStorage.getItem(KEY));
  #talks = [];
  #talk = null;
  #listener = null;
  #isDirty = false;
  #announced = 0;

  constructor() {
    this.status = new Status();
    this.stage = new Stage({
      onOptions: (lane, options) => this.#changeLane(lane, options),
      onAdd: () => this.#addLane(),
      onRemove: (lane) => this.#removeLane(lane),
      onShare: (lane) => this.#try(async () => showLink((await this.#api.link(lane.sessionId)).url)),
      onSelect: (word) => {
        this.chart.selected = word;
        this.#invalidate();
      },
    });
    this.chart = new Chart(byId("chart"), {
      onPoint: (lane, index) => this.stage.selectIn(lane, index),
      onLeave: () => this.stage.select(null, -1),
    });
    fillSelect(byId("source-language"), [...LANGUAGES], "en");
    this.#bind();
    this.#resume(takeKept());
    setInterval(() => this.#tick(), CHART_MS);
  }

  /** Ask for a key where the gateway wants one that this tab does not have. */
  async authenticate() {
    for (;;) {
      try {
        await this.#api.call("GET", "/v1/me");
        return;
      } catch (error) {
        if (error.status !== 401) return; // what else is wrong, the status line tells
      }
      this.#api = new Api(await askForKey());
      sessionStorage.setItem(KEY, this.#api.key);
    }
  }

  // Go on with the talks that a reload has interrupted.
  #resume({ talks, current, announced }) {
    talks.forEach((record) => this.#add(Talk.resume(this.#api, record)));
    if (!talks.length) this.#open(SAMPLES[0].text);
    else this.#show(this.#talks[current], announced);
  }

  #open(text) {
    const talk = this.#add(new Talk({
      text,
      sourceLanguage: recall("source", "en"),
      lanes: recallLanes(),
      wordsPerMinute: recall("pace", 150),
    }));
    this.#show(talk);
  }

  #add(talk) {
    talk.onChange = () => this.#invalidate();
    this.#talks.push(talk);
    return talk;
  }

  #show(talk, announced = talk.lanes[0].segments.length) {
    this.#talk = talk;
    this.#announced = announced;
    this.#notify(talk.failure);
    this.#invalidate();
  }

  #close(talk) {
    talk.close();
    this.#talks = this.#talks.filter((other) => other !== talk);
    if (!this.#talks.length) this.#open("");
    else if (talk === this.#talk) this.#show(this.#talks.at(-1));
    this.#invalidate();
  }

  // Draw at the next frame, once for all changes until then.
  #invalidate() {
    if (this.#isDirty) return;
    this.#isDirty = true;
    requestAnimationFrame(() => {
      this.#isDirty = false;
      this.#draw();
    });
  }

  #draw() {
    const talk = this.#talk;
    this.stage.sync(talk);
    drawTransport(talk, { canListen: canRecognise });
    drawTalks(this.#talks, talk, { onOpen: (other) => this.#show(other), onClose: (other) => this.#close(other) });
    this.chart.draw(talk);
    drawLegend(talk, this.chart.unit);
    if (talk.failure) this.#notify(talk.failure);
    this.#announce();
  }

  #tick() {
    this.status.sync(this.#talks);
    if (this.#talk.isRunning && !document.hidden) this.chart.draw(this.#talk);
  }

  // Screen readers hear whole sentences of the first lane: single words would only interrupt each other.
  #announce() {
    const [lane] = this.#talk.lanes;
    const fresh = lane.segments.slice(this.#announced);
    this.#announced += fresh.length;
    byId("announcer").lang = lane.options.language;
    if (fresh.length) setText(byId("announcer"), fresh.map(({ text }) => text).join(" "));
  }

  #notify(text) {
    setText(byId("notice"), text ?? "");
    show(byId("notice"), Boolean(text));
  }

  async #try(action) {
    this.#notify(null);
    try {
      await action();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) await this.authenticate();
      else this.#notify(error.message);
    }
  }

  async #speak() {
    const talk = this.#talk;
    if (talk.phase === "speaking") talk.pause();
    else if (talk.phase === "paused") talk.resume();
    else if (!talk.isRunning) await this.#start(talk);
  }

  async #start(talk) {
    const numWords = talk.text.split(/\s+/).filter(Boolean).length;
    if (!numWords || numWords > MAX_WORDS) {
      talk.phase = "draft";
      this.#notify(numWords ? `This text has ${numWords} words; up to ${MAX_WORDS} fit.` : "There is no text yet: type, paste or drop one.");
      this.#draw();
      byId("text").focus();
      return;
    }
    this.#announced = 0;
    await this.#try(() => talk.start(this.#api));
  }

  async #listen() {
    const talk = this.#talk;
    this.#announced = 0;
    await this.#try(() => talk.start(this.#api, { isSpeech: true }));
    if (talk.phase !== "speaking") return;
    this.#listener = listen(talk.sourceLanguage, {
      onWords: (text) => talk.hear(text),
      onEnd: (problem) => {
        talk.stop();
        this.#notify(problem);
      },
    });
  }

  #stop() {
    const talk = this.#talk;
    if (talk.phase === "done") this.#edit(talk, talk.text);
    else if (talk.isSpeech) this.#listener.stop();
    else talk.stop();
  }

  #edit(talk, text) {
    talk.text = text;
    talk.isSpeech = false;
    talk.phase = "draft";
    talk.lanes.forEach((lane) => lane.reset());
    this.#draw();
    byId("text").focus();
  }

  async #changeLane(lane, options) {
    if (!this.#talk.isRunning) {
      lane.options = options;
      if (lane.sessionId) lane.reset();
      this.#invalidate();
    } else await this.#talk.change(this.#api, lane, options);
    this.#rememberLanes();
  }

  #addLane() {
    const { language } = this.#talk.lanes.at(-1).options;
    const used = new Set(this.#talk.lanes.map(({ options }) => options.policy));
    const policy = ["wait-k", "sentence", "adaptive"].find((name) => !used.has(name)) ?? "wait-k";
    this.#talk.lanes.push(new Lane({ language, policy, k: { "wait-k": 3, adaptive: 5 }[policy] ?? null }));
    this.#rememberLanes();
    this.#invalidate();
  }

  #removeLane(lane) {
    this.#talk.lanes = this.#talk.lanes.filter((other) => other !== lane);
    this.#rememberLanes();
    this.#invalidate();
  }

  #rememberLanes() {
    remember("lanes", this.#talk.lanes.map(({ options }) => options));
  }

  #bind() {
    byId("speak").onclick = () => this.#speak();
    byId("stop").onclick = () => this.#stop();
    byId("microphone").onclick = () => this.#listen();
    byId("new-talk").onclick = () => {
      this.#open("");
      this.#draw();
      byId("text").focus();
    };
    byId("text").oninput = ({ target }) => {
      this.#talk.text = target.value;
      this.#invalidate();
    };
    byId("pace").oninput = ({ target }) => {
      this.#talk.setPace(Number(target.value));
      remember("pace", this.#talk.wordsPerMinute);
      this.#invalidate();
    };
    byId("source-language").onchange = ({ target }) => {
      this.#talk.sourceLanguage = target.value;
      remember("source", target.value);
    };
    document.querySelectorAll("[name=unit]").forEach((radio) => {
      radio.onchange = () => {
        this.chart.unit = radio.value;
        this.#invalidate();
      };
    });
    addSamples((text) => {
      this.#edit(this.#talk, text);
      this.#speak();
    });
    bindKeys({
      onEnter: () => this.#talk.isRunning || this.#speak(),
      onSpace: () => this.#talk.isRunning && this.#speak(),
    });
    bindDrop((text) => (this.#talk.isRunning ? this.#open(text) : this.#edit(this.#talk, text)));
    window.addEventListener("resize", () => this.#invalidate());
    window.addEventListener("pagehide", () => {
      keep({ talks: this.#talks.map((talk) => talk.record), current: this.#talks.indexOf(this.#talk), announced: this.#announced });
    });
    // A page from the browser's memory has been resumed by another one meanwhile.
    window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  }
}

/** Show the console. */
export function openConsole() {
  byId("console").hidden = false;
  bindTheme();
  new Console().authenticate();
}
