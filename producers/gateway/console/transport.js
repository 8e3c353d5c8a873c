// The buttons that start, pause and stop, as they fit the phase of a talk.

import { byId, setText, show } from "./dom.js";

const PLAY = "M4 2.5v11l9.5-5.5z";
const PAUSE = "M3.5 2.5h3.2v11H3.5zM9.3 2.5h3.2v11H9.3z";

const SPEAK = {
  draft: "Speak",
  starting: "Starting",
  speaking: "Pause",
  paused: "Resume",
  finishing: "Finishing",
  done: "Speak again",
};

/** Show what can be done with this talk now. */
export function drawTransport(talk, { canListen }) {
  const { phase, isSpeech } = talk;
  const speak = byId("speak");
  setText(speak.querySelector("span"), isSpeech && phase === "speaking" ? "Listening" : SPEAK[phase]);
  speak.querySelector("path").setAttribute("d", phase === "speaking" ? PAUSE : PLAY);
  speak.disabled = phase === "starting" || phase === "finishing" || (isSpeech && phase === "speaking");
  const stop = byId("stop");
  setText(stop, phase === "done" ? "Edit the text" : "Stop");
  show(stop, ["speaking", "paused", "done"].includes(phase));
  show(byId("microphone"), canListen);
  byId("microphone").disabled = talk.isRunning;
  byId("console").classList.toggle("running", talk.isRunning);
  byId("source-language").value = talk.sourceLanguage;
  byId("source-language").disabled = talk.isRunning;
  byId("pace").value = talk.wordsPerMinute;
  byId("pace").disabled = isSpeech && talk.isRunning;
  setText(byId("pace-value"), `${talk.wordsPerMinute} words/min`);
  byId("pace").setAttribute("aria-valuetext", `${talk.wordsPerMinute} words a minute`);
}
