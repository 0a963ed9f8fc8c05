// Serves the pages of a scenario, with the unmodified SDK, and drives a browser: takes lines of JSON (`{ id, page, code }`), runs the
// code in that page, and answers in the same way. Each page says a tone of its own instead of a microphone's sound.
const fs = require("fs");
const http = require("http");
const readline = require("readline");

const file = (name) => fs.readFileSync(`${__dirname}/${name}`);
const ear = file("ear.js");
// Every address that a page has asked for.
const asked = [];

function serve(port) {
  const sdk = fs.readFileSync(`${process.env.NODE_PATH}/@twilio/voice-sdk/dist/twilio.min.js`);
  const [page, sipPage] = [file("page.html"), file("sip.html")];
  // JsSIP and SIP.js come as modules.
  const modules = 'window.JsSIP = require("jssip"); window.SIP = require("sip.js");';
  const bundled = require("esbuild").buildSync({ stdin: { contents: modules, resolveDir: __dirname }, nodePaths: [process.env.NODE_PATH], bundle: true, write: false });
  // Without sounds of its own the SDK asks its maker's host for them, and waits.
  const silence = Buffer.concat([wavHead(1600), Buffer.alloc(1600)]);
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
}

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

// `newPage()` makes an empty page with storage of its own; `deeds` are what a browser can do to one besides, by name.
async function drive({ port, browser, newPage, deeds }) {
  serve(port);
  const pages = new Map();
  const open = async (name, path = "") => {
    const opened = await newPage(path);
    opened.on("request", (request) => asked.push(request.url()));
    opened.on("console", (message) => process.stderr.write(`${name}: ${message.text()}\n`));
    opened.on("pageerror", (error) => process.stderr.write(`${name}: ${error}\n`));
    await opened.goto(new URL(path, `http://localhost:${port}/`).href);
    pages.set(name, opened);
    return opened;
  };
  const answer = (id, body) => process.stdout.write(JSON.stringify({ id, ...body }) + "\n");
  answer(0, { value: await browser.version() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, page: name, code, what } = JSON.parse(line);
    const run = async () => {
      if (what === "asked") return asked;
      if (what === "open") return void (await open(name, code));
      const at = pages.get(name) || (await open(name));
      if (what === "shot") return void (await at.screenshot({ path: code }));
      return what ? deeds[what](at, code) : at.evaluate(code);
    };
    run().then((value) => answer(id, { value: value === undefined ? null : value }), (error) => answer(id, { error: String(error) }));
  }
  await browser.close();
  process.exit(0);
}

module.exports = { drive, ear, asked };
