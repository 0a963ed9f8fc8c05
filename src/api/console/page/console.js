// The console: who is signed in, their phones, and what the server is doing, asked once a second.

import { Phone, clock, tell } from "./phone.js";

const POLL_MS = 1_000;
const POLL_AWAY_MS = 5_000;
const REQUEST_MS = 10_000;
const PHONES = 2;
// What `dialtone dev` answers by itself.
const DEMO = [
  { to: "+15550000001", label: "Spoken menu" },
  { to: "+15550000002", label: "Echo" },
];

const element = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

let phones = [];
let isSignedIn = false;

begin();

async function begin() {
  for (;;) {
    try {
      const { body } = await ask("GET", "session");
      return enter(body);
    } catch (error) {
      if (error.status === 401) return showSignIn("");
      showAway(error);
    }
    await sleep(POLL_AWAY_MS);
  }
}

function enter(session) {
  showAway(null);
  isSignedIn = true;
  element("sign-in").hidden = true;
  element("console").hidden = element("account").hidden = false;
  element("sign-out").hidden = session.dev;
  tell(element("account-name"), session.name);
  tell(element("account-sid"), session.account);
  element("identities").replaceChildren(...session.identities.map((identity) => new Option(identity)));
  phones = Array.from({ length: PHONES }, (_, slot) => phone(session, slot));
  element("phones").replaceChildren(...phones.map((phone) => phone.element));
  watch();
}

// In development phones are online at once; elsewhere they would take calls that are somebody's.
function phone(session, slot) {
  const key = `dialtone.${session.account}.${slot}`;
  const fresh = { identity: session.identities[slot] ?? "", isOnline: session.dev };
  const setup = JSON.parse(sessionStorage.getItem(key)) ?? fresh;
  const others = session.identities.filter((identity) => identity !== setup.identity);
  const ideas = others.slice(0, 3).map((identity) => ({ to: `client:${identity}`, label: identity }));
  return new Phone({
    setup,
    remember: (setup) => sessionStorage.setItem(key, JSON.stringify(setup)),
    ideas: session.dev ? [...ideas, ...DEMO] : ideas,
    fetchToken: async (identity) => {
      try {
        return (await ask("POST", "token", { identity })).body;
      } catch (error) {
        if (error.status === 401) leave();
        throw error;
      }
    },
  });
}

function leave(why = "You have been signed out. Sign in again to go on.") {
  if (!isSignedIn) return;
  isSignedIn = false;
  phones.forEach((phone) => phone.close(""));
  phones = [];
  showSignIn(why);
}

function showSignIn(why) {
  showAway(null);
  element("console").hidden = element("account").hidden = element("sign-out").hidden = true;
  element("sign-in").hidden = false;
  tell(element("sign-in-note"), why);
  element("account-field").focus();
}

element("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  button.disabled = true;
  tell(element("sign-in-note"), "");
  try {
    await ask("POST", "session", { account: form.account.value.trim(), token: form.token.value.trim() });
    form.token.value = "";
    await begin();
  } catch (error) {
    tell(element("sign-in-note"), error.message);
    form.token.select();
  }
  button.disabled = false;
});

element("sign-out").addEventListener("click", async () => {
  try {
    await ask("DELETE", "session");
    leave("You are signed out.");
  } catch (error) {
    showAway(error);
  }
});

// A call of a page that is left ends at once, rather than when the server has noticed.
addEventListener("pagehide", () => phones.forEach((phone) => phone.close("")));
addEventListener("pageshow", (event) => event.persisted && location.reload());

addEventListener("phone-changed", () => {
  const ringing = phones.filter((phone) => phone.isRinging).map((phone) => phone.identity);
  document.title = ringing.length ? `☎ ${ringing.join(", ")} – Dialtone console` : "Dialtone console";
});

async function watch() {
  while (isSignedIn) {
    await visible();
    let wait = POLL_MS;
    try {
      const { body, at } = await ask("GET", "overview");
      if (!isSignedIn) return;
      showAway(null);
      showCalls(body.calls, at);
      showWebhooks(body.webhooks);
    } catch (error) {
      if (error.status === 401) return leave();
      showAway(error);
      wait = POLL_AWAY_MS;
    }
    await sleep(wait);
  }
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

function showAway(error) {
  element("away").hidden = !error;
  const age = isSignedIn ? "What is shown may be old. " : "";
  tell(element("away"), error ? `${error.message} ${age}Trying again every ${POLL_AWAY_MS / 1000} seconds.` : "");
}

function showCalls(calls, now) {
  tell(element("calls-count"), calls.length ? String(calls.length) : "");
  element("no-calls").hidden = calls.length > 0;
  keep(element("calls"), "call-template", families(calls), (call) => call.sid, (row, call) => {
    const find = (selector) => row.querySelector(selector);
    row.classList.toggle("leg", Boolean(call.isLeg));
    show(find(".pill"), call.status.replaceAll("-", " "), call.status === "in-progress" ? "good" : "");
    tell(find(".from"), call.from);
    tell(find(".to"), call.to);
    tell(find(".clock"), clock(now - (call.answered_ms ?? call.started_ms)));
    tell(find(".direction"), call.direction.replaceAll("-", " "));
    tell(find(".sid"), call.sid);
  });
}

// A call's legs stand below it.
function families(calls) {
  const sids = new Set(calls.map((call) => call.sid));
  const withLegs = (call) => [call, ...calls.filter((leg) => leg.parent === call.sid).map((leg) => ({ ...leg, isLeg: true })).flatMap(withLegs)];
  return calls.filter((call) => !sids.has(call.parent)).flatMap(withLegs);
}

function showWebhooks(webhooks) {
  element("no-webhooks").hidden = webhooks.length > 0;
  keep(element("webhooks"), "webhook-template", webhooks, (webhook) => webhook.id, (row, webhook) => {
    const find = (selector) => row.querySelector(selector);
    const at = new Date(webhook.at_ms);
    tell(find("time"), at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }));
    find("time").dateTime = at.toISOString();
    tell(find(".method"), webhook.method);
    const { path, host } = parts(webhook.url);
    tell(find(".path"), path);
    tell(find(".host"), host);
    show(find(".pill"), String(webhook.status ?? "no answer"), webhook.error || !(webhook.status < 400) ? "bad" : "good");
    tell(find(".took"), webhook.took_ms < 1000 ? `${webhook.took_ms} ms` : `${(webhook.took_ms / 1000).toFixed(1)} s`);
    tell(find(".error"), webhook.error ?? "");
    tell(find(".whole bdi"), `${webhook.method} ${webhook.url}`);
    find(".of-call").hidden = !webhook.call;
    tell(find(".of-call code"), webhook.call ?? "");
    const dl = find("dl");
    if (dl.children.length !== 2 * webhook.sent.length) {
      dl.replaceChildren(...webhook.sent.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
    }
    tell(find("pre"), webhook.response);
  });
}

// The path is what tells webhooks apart; so it is what is seen first.
function parts(url) {
  try {
    const { pathname, search, host } = new URL(url);
    return { path: pathname + search, host };
  } catch {
    return { path: url, host: "" };
  }
}

function show(pill, words, kind) {
  tell(pill, words);
  pill.dataset.kind = kind;
}

function text(name, words) {
  const node = document.createElement(name);
  tell(node, words);
  return node;
}

// Brings a list up to date. A row keeps its element, and that its place, so that what is open or has the focus stays so.
function keep(list, template, items, keyOf, fill) {
  const rows = new Map(Array.from(list.children, (row) => [row.dataset.key, row]));
  const keys = new Set(items.map((item) => String(keyOf(item))));
  rows.forEach((row, key) => keys.has(key) || row.remove());
  let next = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let row = rows.get(key);
    if (!row) {
      row = element(template).content.firstElementChild.cloneNode(true);
      row.dataset.key = key;
    }
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
    fill(row, item);
  }
}

// Asks the server; what it answered, and when by its clock, which calls are timed by.
async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "X-Dialtone-Console": "1" };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(REQUEST_MS) });
  } catch {
    throw new Error("The server does not answer: it was stopped, or the network between is broken.");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) {
    throw Object.assign(new Error(answer?.message ?? `The server answered with an error (${response.status}).`), { status: response.status });
  }
  return { body: answer, at: Date.parse(response.headers.get("Date")) || Date.now() };
}
