// The telephone line of a small company, in Express. `app.py` is the same in Flask.
const fs = require("fs/promises");
const path = require("path");

const express = require("express");
const twilio = require("twilio");

const { VoiceResponse } = twilio.twiml;
const { TWILIO_ACCOUNT_SID: ACCOUNT, TWILIO_AUTH_TOKEN: TOKEN, INBOX, SOUNDS, PORT } = process.env;
const COMPANY = "+15556000";
// Who may join the conference: whether it is the moderator.
const PINS = { 1234: false, 9876: true };

const client = twilio(ACCOUNT, TOKEN);
client.api.baseUrl = process.env.TWILIO_BASE_URL;
const app = express();
const messages = [];
let calendar = null;

app.use("/sounds", express.static(SOUNDS));
app.get("/inbox", (req, res) => res.json(messages));
app.use(express.urlencoded({ extended: false }));
app.use(twilio.webhook());

const language = (req) => (/\blanguage=(\w+)/.exec(req.get("Cookie")) || ["", "en"])[1];
// A recording in the language that the caller has chosen.
const sound = (req, name) => `/sounds/${name}-${language(req)}.wav`;
const send = (res, response) => res.type("text/xml").send(response.toString());
const told = (req, res) => res.sendStatus(204);

app.post("/voice", (req, res) => {
  const response = new VoiceResponse();
  response.say("Welcome to Example.");
  response.redirect("/menu");
  send(res, response);
});

app.post("/menu", (req, res) => {
  const tries = Number(req.query.tries || 1);
  const response = new VoiceResponse();
  const gather = response.gather({ numDigits: 1, action: "/choice", timeout: 2 });
  gather.play(sound(req, "menu"));
  // Who presses nothing comes here.
  response.play(sound(req, "nothing"));
  if (tries < 2) {
    response.redirect(`/menu?tries=${tries + 1}`);
  } else {
    response.say("Goodbye.");
    response.hangup();
  }
  send(res, response);
});

app.post("/choice", (req, res) => {
  const response = new VoiceResponse();
  const pages = { 1: "/sales", 2: "/voicemail", 3: "/conference", 4: "/reach", 0: "/operator" };
  const digits = req.body.Digits;
  if (digits in pages) {
    response.redirect(pages[digits]);
    return send(res, response);
  }
  if (digits === "8") {
    res.cookie("language", "de");
  } else {
    response.play(sound(req, "wrong"));
  }
  response.redirect("/menu");
  send(res, response);
});

// 1: sales.

app.post("/sales", (req, res) => {
  const response = new VoiceResponse();
  response.enqueue({ waitUrl: "/sales/wait", action: "/sales/left" }, "sales");
  send(res, response);
});

app.post("/sales/wait", (req, res) => {
  const response = new VoiceResponse();
  response.play(sound(req, "wait"));
  send(res, response);
});

app.post("/sales/left", (req, res) => {
  const response = new VoiceResponse();
  if (req.body.QueueResult === "bridged") response.play(sound(req, "thanks"));
  response.hangup();
  send(res, response);
});

app.post("/agent", (req, res) => {
  const response = new VoiceResponse();
  response.dial({ action: "/agent/done", timeout: 10 }).queue("sales");
  send(res, response);
});

app.post("/agent/done", (req, res) => {
  const response = new VoiceResponse();
  response.hangup();
  send(res, response);
});

// 2: voicemail.

app.post("/voicemail", (req, res) => {
  const response = new VoiceResponse();
  response.record({
    action: "/voicemail/done", finishOnKey: "#", timeout: 3, maxLength: 60, trim: "do-not-trim", recordingStatusCallback: "/voicemail/recording",
  });
  send(res, response);
});

app.post("/voicemail/done", (req, res) => {
  const response = new VoiceResponse();
  response.play(sound(req, "thanks"));
  response.hangup();
  send(res, response);
});

// Channels, rate, bits a sample and seconds of a WAV file; throws where it is none.
const formOf = (data) => {
  if (data.toString("latin1", 0, 4) !== "RIFF" || data.toString("latin1", 8, 16) !== "WAVEfmt ") throw new Error("not a WAV file");
  const [channels, rate, bits] = [data.readUInt16LE(22), data.readUInt32LE(24), data.readUInt16LE(34)];
  const start = data.indexOf("data") + 8;
  return { channels, rate, bits, seconds: (data.readUInt32LE(start - 4) / channels / bits) * 8 / rate };
};

// Keeps the message here, and not there.
app.post("/voicemail/recording", async (req, res) => {
  const { RecordingSid: sid, RecordingUrl: url, CallSid: call } = req.body;
  const authorization = `Basic ${Buffer.from(`${ACCOUNT}:${TOKEN}`).toString("base64")}`;
  const download = await fetch(`${url}.wav`, { headers: { authorization } });
  if (!download.ok) throw new Error(`the recording is answered with ${download.status}`);
  const data = Buffer.from(await download.arrayBuffer());
  const form = formOf(data);
  const file = `${sid}.wav`;
  await fs.writeFile(path.join(INBOX, file), data);
  await client.recordings(sid).remove();
  messages.push({ call, file, ...form });
  res.sendStatus(204);
});

// 3: conference.

app.post("/conference", (req, res) => {
  const response = new VoiceResponse();
  const gather = response.gather({ numDigits: 4, finishOnKey: "#", action: "/conference/pin", timeout: 5 });
  gather.play(sound(req, "pin"));
  response.redirect("/menu");
  send(res, response);
});

app.post("/conference/pin", (req, res) => {
  const response = new VoiceResponse();
  const pin = req.body.Digits;
  if (!(pin in PINS)) {
    response.play(sound(req, "wrong"));
    response.redirect("/conference");
    return send(res, response);
  }
  response.dial({ action: "/conference/left" }).conference({
    startConferenceOnEnter: PINS[pin], endConferenceOnExit: PINS[pin], beep: false, waitUrl: "/conference/wait",
    statusCallback: "/conference/told", statusCallbackEvent: "start end join leave",
  }, "company");
  send(res, response);
});

app.post("/conference/wait", (req, res) => {
  const response = new VoiceResponse();
  response.play(sound(req, "wait"));
  send(res, response);
});

app.post("/conference/left", (req, res) => {
  const response = new VoiceResponse();
  response.play(sound(req, "thanks"));
  response.hangup();
  send(res, response);
});

app.post("/conference/told", told);

// 4: somebody at a desk.

app.post("/reach", (req, res) => {
  const response = new VoiceResponse();
  const dial = response.dial({ action: "/reach/done", timeout: 5, answerOnBridge: true });
  dial.client({ statusCallback: "/reach/status", statusCallbackEvent: "initiated ringing answered completed" }, "desk");
  send(res, response);
});

app.post("/reach/done", (req, res) => {
  const response = new VoiceResponse();
  if (req.body.DialCallStatus === "completed") {
    response.hangup();
  } else {
    response.play(sound(req, "away"));
    response.redirect("/voicemail");
  }
  send(res, response);
});

app.post("/reach/status", told);

// 0: the operator calls back.

app.post("/operator", async (req, res) => {
  const here = `${req.protocol}://${req.get("Host")}`;
  const message = new VoiceResponse();
  message.play(`${here}/sounds/operator-en.wav`);
  message.say("This was the operator.");
  await client.calls.create({
    to: req.body.From, from: COMPANY, twiml: message.toString(), statusCallback: `${here}/operator/status`,
    statusCallbackEvent: ["initiated", "ringing", "answered", "completed"],
  });
  const response = new VoiceResponse();
  response.play(sound(req, "thanks"));
  response.hangup();
  send(res, response);
});

app.post("/operator/status", told);

// Of the numbers.

// Fails for the first caller, who makes it load what is missing.
app.post("/opening-hours", (req, res) => {
  if (calendar === null) {
    calendar = { open: true };
    throw new Error("the calendar was not loaded");
  }
  const response = new VoiceResponse();
  response.redirect(calendar.open ? "/voice" : "/voicemail");
  send(res, response);
});

app.post("/fallback", (req, res) => {
  const response = new VoiceResponse();
  response.play(sound(req, "sorry"));
  response.redirect("/menu");
  send(res, response);
});

app.post("/status", told);

app.listen(Number(PORT), "127.0.0.1");
