// Shows the console, or the captions view where the address is a listener's link.

import { openCaptions } from "./captions-view.js";
import { openConsole } from "./console.js";

const LINK = "#listen=";

if (location.hash.startsWith(LINK)) openCaptions(decodeURIComponent(location.hash.slice(LINK.length)));
else openConsole();
window.addEventListener("hashchange", () => location.reload());
