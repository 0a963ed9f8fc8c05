// Firefox for a scenario, as pages.js drives it, by WebDriver BiDi.
const puppeteer = require("puppeteer-core");
const { drive } = require("./pages.js");

const [port] = process.argv.slice(2);

async function main() {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: "/usr/bin/firefox-esr",
    headless: true,
    acceptInsecureCerts: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "permissions.default.microphone": 1,
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      // Without it no page of Firefox's reaches media on a loopback address.
      "media.peerconnection.ice.loopback": true,
      "network.proxy.type": 0,
    },
  });
  const newPage = async () => (await browser.createBrowserContext()).newPage();
  await drive({ port, browser, newPage, deeds: { close: (page) => page.browserContext().close() } });
}

main();
