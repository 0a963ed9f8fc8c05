// Drives Chromium for a scenario: takes lines of JSON (`{ id, page, code }`), runs the code in that page, and answers in the same way.
// Pages are served here, with the unmodified SDK; each says a tone of its own instead of a microphone's sound.
const fs = require("fs");
const http = require("http");
const readline = require("readline");
const { chromium } = require("playwright-core");

const [port, hosts] = process.argv.slice(2);
const sdk = fs.readFileSync(`${process.env.NODE_PATH}/@twilio/voice-sdk/dist/twilio.min.js`);
const page = fs.readFileSync(`${__dirname}/page.html`);
const ear = fs.readFileSync(`${__dirname}/ear.js`);
const sipPage = fs.readFileSync(`${__dirname}/sip.html`);
// Without sounds of its own the SDK asks its maker's host for them, and waits.
const silence = Buffer.concat([wavHead(1600), Buffer.alloc(1600)]);
// JsSIP and SIP.js come as modules.
const modules = 'window.JsSIP = require("jssip"); window.SIP = require("sip.js");';
const bundled = require("esbuild").buildSync({ stdin: { contents: modules, resolveDir: __dirname }, nodePaths: [process.env.NODE_PATH], bundle: true, write: false });
const asked = [];

http
  .createServer((request, response) => {
    const found = {
      "/sip": ["text/html", sipPage],
      "/sip.js": ["text/javascript", bundled.outputFiles[0].text],
      "/twilio.min.js": ["text/javascript", sdk],
      "/ear.js": ["text/javascript", ear],
      "/silence.wav": ["audio/wav", silence],
    };
    const [kind, body] = found[request.url.split("?")[0]] || ["text/html", page];
    response.setHeader("content-type", kind);
    response.end(body);
  })
  .listen(Number(port), "127.0.0.1");

// What each connection of a page hears.
const EARS = `
  window.tone = tone;
  window.connections = [];
  const Real = RTCPeerConnection;
  window.RTCPeerConnection = class extends Real { constructor(...given) { super(...given); connections.push(this); } };
  window.hears = (number) => heardIn(new MediaStream(connections.at(number).getReceivers().map((one) => one.track)));
`;

function wavHead(bytes) {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + bytes, 4);
  head.write("WAVEfmt ", 8);
  [16, 1 | (1 << 16), 8000, 16000, 2 | (16 << 16)].forEach((word, at) => head.writeUInt32LE(word, 16 + 4 * at));
  head.write("data", 36);
  head.writeUInt32LE(bytes, 40);
  return head;
}

async function main() {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--ignore-certificate-errors", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      "--disable-features=WebRtcHideLocalIpsWithMdns", `--host-resolver-rules=${hosts}`,
    ],
  });
  const pages = new Map();
  // A path of ours, or a page of somebody else's, which gets its tone and its ears here.
  const open = async (name, path = "") => {
    const context = await browser.newContext();
    const opened = await context.newPage();
    if (path.includes("://")) await opened.addInitScript(`${ear}; ${EARS}`);
    opened.on("request", (request) => asked.push(request.url()));
    opened.on("websocket", (socket) => asked.push(socket.url()));
    opened.on("console", (message) => process.stderr.write(`${name}: ${message.text()}\n`));
    opened.on("pageerror", (error) => process.stderr.write(`${name}: ${error}\n`));
    await opened.goto(new URL(path, `http://localhost:${port}/`).href);
    pages.set(name, opened);
    return opened;
  };
  const answer = (id, body) => process.stdout.write(JSON.stringify({ id, ...body }) + "\n");
  answer(0, { value: browser.version() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, page: name, code, what } = JSON.parse(line);
    const run = async () => {
      if (what === "asked") return asked;
      if (what === "close") return pages.get(name).context().close();
      if (what === "offline") return pages.get(name).context().setOffline(code);
      if (what === "open") return void (await open(name, code));
      if (what === "look") {
        await pages.get(name).setViewportSize({ width: code.width, height: code.height });
        return pages.get(name).emulateMedia({ colorScheme: code.scheme });
      }
      const at = pages.get(name) || (await open(name));
      return what === "shot" ? at.screenshot({ path: code }) : at.evaluate(code);
    };
    run().then((value) => answer(id, { value: value === undefined ? null : value }), (error) => answer(id, { error: String(error) }));
  }
  await browser.close();
  process.exit(0);
}

main();
