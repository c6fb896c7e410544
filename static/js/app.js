// Everything that lives on every page. No framework, no build: each module is a few dozen lines of the platform.
import "./live.js";
import "./time-ago.js";
import "./copy-button.js";
import "./dialogs.js";
import "./toasts.js";
import "./keyboard.js";
import "./log-view.js";
import "./chat-box.js";
import "./estimate-panel.js";
import "./chips.js";
