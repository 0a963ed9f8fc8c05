// One phone of the page: what is seen of a line and its call, and what is done with them.

import { Line } from "./signal.js";
import { isAudible, ring } from "./sound.js";

const LEVELS_EVERY_MS = 100;
const NO_NAME = "Give this phone a name, which others call it by, and go online.";
const KEYS = /^[0-9*#]$/;
const TRICKS = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

export class Phone {
  #line;
  #setup;
  #remember;
  // The one that is shown: it stays after its end, until there is another.
  #call = null;
  #stopRing = null;
  #ticks = null;
  #parts;

  element;

  // `setup` is `{ identity, isOnline }`, which `remember` is given again whenever it changes. `ideas` are numbers to try, with
  // what they are; `fetchToken(identity)` resolves to a token of it.
  constructor({ setup, remember, ideas, fetchToken }) {
    [this.#setup, this.#remember] = [setup, remember];
    this.element = document.getElementById("phone-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.#parts = {
      identity: find(".identity"),
      online: find(".online"),
      state: find(".state"),
      peer: find(".peer bdi"),
      clock: find(".clock"),
      digits: find(".digits"),
      levels: find(".levels"),
      mine: find(".mine"),
      theirs: find(".theirs"),
      note: find(".note"),
      dial: find(".dial"),
      number: find(".number"),
      place: find(".call"),
      ideas: find(".ideas"),
      controls: find(".controls"),
      answer: find(".answer"),
      reject: find(".reject"),
      mute: find(".mute"),
      hangUp: find(".hang-up"),
      keypad: find(".keypad"),
    };
    this.#line = new Line(() => fetchToken(this.#setup.identity), () => this.#changed());
    this.#parts.identity.value = setup.identity;
    ideas.forEach((idea) => this.#parts.ideas.append(this.#chip(idea)));
    this.#listen();
    this.#begin();
  }

  close(why) {
    this.#line.close(why);
  }

  get isRinging() {
    return this.#line.call?.state === "incoming";
  }

  get identity() {
    return this.#setup.identity;
  }

  #chip({ to, label }) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = label;
    chip.title = to;
    chip.addEventListener("click", () => {
      this.#parts.number.value = to;
      this.#changed();
      this.#parts.place.focus();
    });
    return chip;
  }

  #listen() {
    const { identity, online, dial, number, answer, reject, mute, hangUp, keypad } = this.#parts;
    identity.addEventListener("change", () => this.#set({ identity: identity.value.trim() }));
    online.addEventListener("click", () => this.#set({ isOnline: this.#line.state === "off" }));
    number.addEventListener("input", () => this.#changed());
    dial.addEventListener("submit", (event) => {
      event.preventDefault();
      const to = destination(number.value);
      if (to && this.#line.state === "online") this.#line.dial(to);
    });
    answer.addEventListener("click", () => this.#line.call?.answer());
    reject.addEventListener("click", () => this.#line.call?.reject());
    mute.addEventListener("click", () => this.#line.call?.mute(!this.#line.call.isMuted));
    hangUp.addEventListener("click", () => this.#line.call?.hangUp());
    addEventListener("sound-changed", () => this.#changed());
    keypad.addEventListener("click", ({ target }) => this.#press(target.value));
    this.element.addEventListener("keydown", (event) => {
      const isTyped = event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey;
      if (this.#line.call?.state === "open" && !isTyped && KEYS.test(event.key)) this.#press(event.key);
    });
  }

  #set(change) {
    Object.assign(this.#setup, change);
    this.#remember(this.#setup);
    this.#call = null;
    this.#begin();
  }

  #begin() {
    const { identity, isOnline } = this.#setup;
    this.#line.close(identity ? "" : NO_NAME);
    if (identity && isOnline) this.#line.open();
  }

  // A key is a digit of the call, or of the number that is to be called.
  #press(key) {
    if (!key) return;
    if (this.#line.call) return this.#line.call.press(key);
    this.#parts.number.value += key;
    this.#changed();
  }

  #changed() {
    this.#call = this.#line.call ?? this.#call;
    const [parts, line, call] = [this.#parts, this.#line, this.#call];
    const hadFocus = this.element.contains(document.activeElement) ? document.activeElement : null;
    const isOver = !call || call.state === "over";
    const shown = isOver ? line.state : call.state;

    this.element.dataset.state = shown;
    this.element.setAttribute("aria-label", `Phone ${this.#setup.identity || "without a name"}`);
    parts.online.setAttribute("aria-checked", String(line.state !== "off"));
    parts.identity.disabled = parts.online.disabled = !isOver;

    const { state, peer, note } = said(line, call);
    tell(parts.state, state);
    tell(parts.peer, peer);
    tell(parts.note, note);
    tell(parts.digits, call?.digits ?? "");
    parts.levels.hidden = shown !== "open";

    parts.dial.hidden = parts.ideas.hidden = !isOver;
    parts.place.disabled = line.state !== "online" || !destination(parts.number.value);
    parts.controls.hidden = isOver;
    parts.keypad.disabled = !isOver && shown !== "open";
    parts.answer.hidden = parts.reject.hidden = shown !== "incoming";
    parts.mute.hidden = shown !== "open";
    parts.hangUp.hidden = isOver || shown === "incoming";
    parts.mute.setAttribute("aria-pressed", String(call?.isMuted ?? false));

    // A button that goes takes the focus with it. It is given to the whole group that takes its place, and to none of its buttons:
    // a key that is held down would press that, too.
    if (hadFocus && !hadFocus.checkVisibility()) (isOver ? parts.dial : parts.controls).focus();

    this.#ring();
    this.#tick();
    dispatchEvent(new CustomEvent("phone-changed"));
  }

  #ring() {
    if (this.isRinging) {
      this.#stopRing ??= ring();
    } else {
      this.#stopRing?.();
      this.#stopRing = null;
    }
  }

  // The clock and the levels move while a call is open, and the clock stands still after it.
  #tick() {
    const call = this.#call;
    if (!call?.openedAt) tell(this.#parts.clock, "");
    if (call?.state === "open") {
      this.#ticks ??= setInterval(() => this.#move(), LEVELS_EVERY_MS);
      this.#move();
    } else {
      clearInterval(this.#ticks);
      this.#ticks = null;
    }
  }

  #move() {
    const { openedAt, levels, isMuted } = this.#call;
    tell(this.#parts.clock, clock(performance.now() - openedAt));
    this.#parts.mine.style.setProperty("--level", isMuted ? 0 : levels.mine().toFixed(2));
    this.#parts.theirs.style.setProperty("--level", levels.theirs().toFixed(2));
  }
}

// What a phone says of itself: a state, with whom, and what is to be known besides.
function said(line, call) {
  if (!call) return { ...saidOfLine(line), peer: "" };
  const peer = call.peer.replace(/^client:/, "");
  const isLineAway = line.state !== "online";
  const note = call.trouble || call.note || (isLineAway ? `${line.why} The call goes on meanwhile.` : "");
  switch (call.state) {
    case "asking":
      return { state: "May it use the microphone? Your browser asks.", peer, note };
    case "calling":
      return { state: "Calling", peer, note };
    case "ringing":
      return { state: "Ringing", peer, note };
    case "incoming":
      return { state: "Incoming call from", peer, note: isAudible() ? note : "It rings silently: browsers play sounds only in pages that were clicked." };
    case "answering":
      return { state: "Answering", peer, note };
    case "open":
      return { state: openState(call), peer, note };
    case "over":
      return { state: line.state === "online" ? "Call ended" : saidOfLine(line).state, peer, note: [call.why, line.why].filter(Boolean).join(" ") };
  }
}

function openState(call) {
  if (!call.hasMedia) return "Connecting the sound with";
  return call.isMuted ? "Muted, in a call with" : "In a call with";
}

function saidOfLine({ state, why }) {
  switch (state) {
    case "off":
      return { state: "Offline", note: why || "Go online to call and to be called." };
    case "connecting":
      return { state: "Connecting", note: why };
    case "waiting":
      return { state: "No connection", note: why };
    case "online":
      return { state: "Ready", note: "" };
  }
}

// What people type, as the server takes it: numbers without what only makes them readable, SIP addresses and clients as they are,
// and any other word is a client's name.
function destination(typed) {
  const text = typed.trim();
  if (/^\+?[\d\s().*#/-]+$/.test(text)) return text.replace(/[^\d+*#]/g, "");
  if (!text || /^(client|sips?):/i.test(text)) return text;
  return `client:${text}`;
}

export function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// Writes a text; one that is there already is left alone, as live regions would read it out again. It is a stranger's, often:
// so it is never HTML, and characters that turn or hide what stands beside them are shown by their numbers.
export function tell(node, text) {
  const shown = text.replace(TRICKS, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
  if (node.textContent !== shown) node.textContent = shown;
}
