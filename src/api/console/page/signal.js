// The server's side of a phone: the WebSocket /signal, by which the official voice SDK speaks too, and the media of a call.
//
// A Line is one identity's connection; it comes back by itself when it is lost. It has one Call at a time.

import { meter, microphone } from "./sound.js";

// Firefox lets no page have media from a loopback address, unless it is told to.
const IS_SHUT = navigator.userAgent.includes("Firefox") && ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
const NO_SOUND = IS_SHUT
  ? "No sound gets through: Firefox keeps pages from media on this same computer. Set media.peerconnection.ice.loopback to true in about:config, or open this page in another browser."
  : "No sound gets through. The server’s UDP port for media must be reachable from here: look at firewalls, and at [media] advertise of its configuration.";

const HEARTBEAT = "\n";
// The server sends a heartbeat every 5 s: a connection that is silent for longer than this is dead, whatever TCP thinks of it.
const SILENT_MS = 15_000;
const REGISTER_EVERY_MS = 30_000;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;
// A token is renewed this long before its end, or after half of its time where that is sooner.
const RENEW_BEFORE_S = 60;
// How long the server is to keep a call that has lost its connection: the most that it grants.
const PATIENCE_S = 30;
const RESTART_EVERY_MS = 5_000;
const DIGIT_MS = 160;
const BETWEEN_DIGITS_MS = 70;

const WHY = {
  31400: "The server could not make sense of the call.",
  31404: "Nobody has that number or name, or the application that answers it is gone.",
  31480: "They did not answer, or cannot be reached now.",
  31486: "They are busy.",
  31603: "They declined the call.",
  31209: "The call could not be taken up again: the server was restarted, or its connection was away for too long.",
  31000: "The call could not be made. What your application answered is among the webhooks.",
};

export class Line {
  #fetchToken;
  #onChange;
  #isWanted = false;
  #socket = null;
  #retryMs = FIRST_RETRY_MS;
  #timers = {};

  // `off`, `connecting`, `online`, or `waiting` for the next attempt.
  state = "off";
  // Why it is as it is, for people; empty where that needs no words.
  why = "";
  call = null;
  // Servers that help media to get through, where the server of this page names some.
  iceServers = [];

  // `fetchToken` resolves to `{ token, ttl }`; `onChange` is called after each change of the line or of its call.
  constructor(fetchToken, onChange) {
    this.#fetchToken = fetchToken;
    this.#onChange = onChange;
  }

  open() {
    this.#isWanted = true;
    this.why = "";
    this.#connect();
  }

  close(why = "") {
    this.#isWanted = false;
    this.call?.hangUp();
    this.#drop();
    this.#become("off", why);
  }

  // `to` is what the application is asked with: a number, `client:NAME`, or a SIP address.
  dial(to) {
    this.call = new Call(this, { peer: to, name: `TJS${crypto.randomUUID?.() ?? Date.now()}` });
    this.call.begin();
  }

  async #connect() {
    this.#drop();
    this.#become("connecting", this.why);
    // Each attempt has timers of its own: by them it knows whether it still is the last one.
    const attempt = this.#timers;
    let token;
    try {
      token = await this.#fetchToken();
    } catch (error) {
      if (attempt !== this.#timers) return;
      // Who asks wrongly is not answered better a second time.
      const isFinal = error.status >= 400 && error.status < 500 && error.status !== 429;
      return isFinal ? this.close(error.message) : this.#retry(error.message);
    }
    if (attempt !== this.#timers) return;
    this.iceServers = token.ice_servers ?? [];
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/signal`);
    this.#socket = socket;
    socket.onopen = () => {
      this.#listen(token);
      this.#expectMore();
    };
    socket.onclose = () => this.#retry("The connection to the server broke.");
    socket.onmessage = ({ data }) => {
      this.#expectMore();
      if (data === HEARTBEAT) return socket.send(HEARTBEAT);
      const { type, payload } = JSON.parse(data);
      this.#take(type, payload ?? {});
    };
  }

  #listen({ token, ttl }) {
    this.send("listen", {
      token,
      reconnectTimeout: PATIENCE_S,
      browserinfo: { p: "browser", plugin: "rtc", v: "dialtone-console", browser: { userAgent: navigator.userAgent } },
    });
    const renewS = Math.max(ttl - RENEW_BEFORE_S, ttl / 2);
    clearTimeout(this.#timers.renew);
    this.#timers.renew = setTimeout(() => this.#renew(), renewS * 1000);
  }

  async #renew() {
    const socket = this.#socket;
    try {
      const token = await this.#fetchToken();
      if (socket === this.#socket) this.#listen(token);
    } catch {
      // The old one holds a little longer; without a newer one the server closes, and the next connection asks again.
    }
  }

  #expectMore() {
    clearTimeout(this.#timers.silent);
    this.#timers.silent = setTimeout(() => this.#retry("The server has fallen silent."), SILENT_MS);
  }

  #retry(why) {
    if (!this.#isWanted) return;
    this.#drop();
    this.call?.lostLine();
    this.#become("waiting", `${why} Trying again in ${Math.round(this.#retryMs / 1000)} s.`);
    this.#timers.retry = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  // Nothing of the connection so far counts any more.
  #drop() {
    Object.values(this.#timers).forEach(clearTimeout);
    this.#timers = {};
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onclose = this.#socket.onmessage = null;
    this.#socket.close();
    this.#socket = null;
  }

  #take(type, payload) {
    switch (type) {
      case "connected":
        this.#register();
        // It is told so of a newer token, too; then the call has never been without its connection.
        if (this.state === "connecting") this.call?.resume();
        break;
      case "ready":
        this.#retryMs = FIRST_RETRY_MS;
        this.#become("online");
        break;
      case "error":
        if (payload.callsid) this.#ofCall(payload)?.take(type, payload);
        else this.#retry(`The server refuses this phone: ${payload.error?.message ?? "it does not say why"}.`);
        break;
      case "invite":
        this.#called(payload);
        break;
      default:
        this.#ofCall(payload)?.take(type, payload);
    }
  }

  #register() {
    this.send("register", { media: { audio: true } });
    clearTimeout(this.#timers.register);
    this.#timers.register = setTimeout(() => this.#register(), REGISTER_EVERY_MS);
  }

  #called({ callsid, sdp, parameters, reconnect }) {
    if (this.call) {
      // Other devices of this name ring on.
      this.send("reject", { callsid });
      this.call.note = `${parameters?.From ?? "Somebody"} called meanwhile, and was told that you are busy.`;
      return this.changed();
    }
    this.call = new Call(this, { peer: parameters?.From ?? "", sid: callsid, offer: sdp, token: reconnect });
    this.changed();
  }

  // Our call, if a frame is about it. The first frame about an outgoing call tells by which sid the server knows it.
  #ofCall({ callsid }) {
    const call = this.call;
    const isKnown = call && (callsid === call.sid || callsid === call.name);
    return isKnown || (call?.state === "calling" && !call.sid) ? call : null;
  }

  // Lost where there is no connection: the server then ends or keeps the call by rules of its own.
  send(type, payload) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ payload, type, version: "1.6" }));
  }

  #become(state, why = "") {
    [this.state, this.why] = [state, why];
    this.changed();
  }

  changed() {
    this.#onChange();
  }
}

class Call {
  #line;
  #offer;
  #token;
  #peer = null;
  #microphone = null;
  #sender = null;
  #speaker = new Audio();
  #restart = null;

  // Ours: `asking` for the microphone, `calling`, `ringing`, `open`. Theirs: `incoming`, `answering`, `open`. At the end `over`.
  state;
  peer;
  // Our name of an outgoing call, and the server's of any.
  name;
  sid;
  // What is to be known of it, for people; and what goes wrong just now.
  note = "";
  trouble = "";
  // Why it is over.
  why = "";
  openedAt = null;
  isMuted = false;
  digits = "";
  levels = { mine: () => 0, theirs: () => 0 };

  constructor(line, { peer, name = null, sid = null, offer = null, token = null }) {
    this.#line = line;
    [this.peer, this.name, this.sid, this.#offer, this.#token] = [peer, name, sid, offer, token];
    this.state = offer ? "incoming" : "asking";
  }

  async begin() {
    this.#become("asking");
    if (!(await this.#prepare())) return;
    await this.#peer.setLocalDescription();
    if (this.state === "over") return;
    const params = new URLSearchParams({ To: this.peer }).toString();
    this.#line.send("invite", { callsid: this.name, sdp: this.#peer.localDescription.sdp, twilio: { params } });
    this.#become("calling");
  }

  async answer() {
    this.#become("answering");
    if (!(await this.#prepare())) return;
    try {
      await this.#peer.setRemoteDescription({ type: "offer", sdp: this.#offer });
      await this.#peer.setLocalDescription();
    } catch (error) {
      return this.#fail(error);
    }
    this.#line.send("answer", { callsid: this.sid, sdp: this.#peer.localDescription.sdp });
  }

  reject() {
    this.#line.send("reject", { callsid: this.sid });
    this.#end("You rejected the call.");
  }

  hangUp() {
    if (this.state !== "asking") this.#line.send("hangup", { callsid: this.sid ?? this.name });
    this.#end(this.openedAt ? "You hung up." : "You gave up.");
  }

  mute(isMuted) {
    this.isMuted = isMuted;
    this.#microphone.getAudioTracks().forEach((track) => (track.enabled = !isMuted));
    this.#line.changed();
  }

  press(digits) {
    const dtmf = this.#sender.dtmf;
    // What is given replaces what has not been played yet.
    if (dtmf?.canInsertDTMF) dtmf.insertDTMF(dtmf.toneBuffer + digits, DIGIT_MS, BETWEEN_DIGITS_MS);
    else this.#line.send("dtmf", { callsid: this.sid, dtmf: digits });
    this.digits += digits;
    this.#line.changed();
  }

  take(type, payload) {
    switch (type) {
      case "ringing":
      case "answer":
        this.sid = payload.callsid;
        this.#token = payload.reconnect ?? this.#token;
        this.#hear(payload.sdp);
        if (type === "answer") this.#opened();
        else if (this.state === "calling") this.#become("ringing");
        break;
      case "cancel":
        return this.#end("They gave up before you answered.");
      case "hangup":
        return this.#end(payload.error ? whyOf(payload.error) : "They hung up.");
      case "error":
        this.trouble = whyOf(payload.error ?? {});
        this.#line.changed();
    }
  }

  // The line has lost its connection: a call that is open goes on by the next one.
  lostLine() {
    if (this.state !== "open") this.#end("The connection to the server broke before the call was answered.");
  }

  // The line has its next connection.
  resume() {
    if (this.state !== "open") return;
    this.#line.send("invite", { callsid: this.sid, reconnect: this.#token, sdp: this.#peer.localDescription.sdp, twilio: {} });
  }

  // Whether the call still is to be.
  async #prepare() {
    const { stream, note } = await microphone();
    if (this.state === "over") {
      stop(stream);
      return false;
    }
    [this.#microphone, this.note] = [stream, note];
    this.levels.mine = meter(stream);
    const peer = new RTCPeerConnection({ iceServers: this.#line.iceServers, bundlePolicy: "max-bundle" });
    this.#peer = peer;
    this.#sender = peer.addTrack(stream.getAudioTracks()[0], stream);
    peer.ontrack = ({ track }) => {
      const heard = new MediaStream([track]);
      this.#speaker.srcObject = heard;
      this.#speaker.play().catch(() => {
        this.note = "The browser does not play the sound. Click in the page, and call again.";
        this.#line.changed();
      });
      this.levels.theirs = meter(heard);
    };
    peer.onconnectionstatechange = () => this.#watchMedia();
    return true;
  }

  async #hear(sdp) {
    if (!sdp || this.#peer?.signalingState !== "have-local-offer") return;
    try {
      await this.#peer.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#fail(error);
    }
  }

  #opened() {
    this.openedAt ??= performance.now();
    this.#become("open");
    this.#watchMedia();
  }

  // Media that finds no way, or has lost it, looks for one again until it is back or the call is over.
  #watchMedia() {
    if (this.hasMedia || this.state !== "open") {
      clearInterval(this.#restart);
      [this.#restart, this.trouble] = [null, ""];
    } else {
      this.#restart ??= setInterval(() => this.#restartMedia(), RESTART_EVERY_MS);
    }
    this.#line.changed();
  }

  get hasMedia() {
    return this.#peer?.connectionState === "connected";
  }

  async #restartMedia() {
    this.trouble = NO_SOUND;
    this.#line.changed();
    if (this.#peer.signalingState === "stable") {
      this.#peer.restartIce();
      await this.#peer.setLocalDescription();
    }
    if (this.state === "open") this.#line.send("reinvite", { callsid: this.sid, sdp: this.#peer.localDescription.sdp });
  }

  #fail(error) {
    if (this.state === "over") return;
    this.hangUp();
    this.why = `This browser and the server do not agree on the sound: ${error.message}`;
    this.#line.changed();
  }

  #end(why) {
    if (this.state === "over") return;
    clearInterval(this.#restart);
    this.#peer?.close();
    stop(this.#microphone);
    this.#speaker.srcObject = null;
    this.why = why;
    this.#line.call = null;
    this.#become("over");
  }

  #become(state) {
    this.state = state;
    this.#line.changed();
  }
}

function whyOf({ code, message }) {
  return WHY[code] ?? `The server ended the call: ${message ?? "it does not say why"} (${code ?? "no code"}).`;
}

// Browsers show that the microphone is on until its last track is stopped.
function stop(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
