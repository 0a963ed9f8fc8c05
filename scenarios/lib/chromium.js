// Chromium for a scenario, as pages.js drives it.
const { chromium } = require("playwright-core");
const { drive, ear, asked } = require("./pages.js");

const [port, hosts] = process.argv.slice(2);

// What each connection of somebody else's page hears.
const EARS = `
  window.tone = tone;
  window.connections = [];
  const Real = RTCPeerConnection;
  window.RTCPeerConnection = class extends Real { constructor(...given) { super(...given); connections.push(this); } };
  window.hears = (number) => heardIn(new MediaStream(connections.at(number).getReceivers().map((one) => one.track)));
`;

async function main() {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--ignore-certificate-errors", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      "--disable-features=WebRtcHideLocalIpsWithMdns", `--host-resolver-rules=${hosts}`,
    ],
  });
  const newPage = async (path) => {
    const page = await (await browser.newContext()).newPage();
    page.on("websocket", (socket) => asked.push(socket.url()));
    // A page of somebody else's gets its tone and its ears here.
    if (path.includes("://")) await page.addInitScript(`${ear}; ${EARS}`);
    return page;
  };
  const deeds = {
    close: (page) => page.context().close(),
    offline: (page, is) => page.context().setOffline(is),
    look: async (page, { width, height, scheme }) => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme });
    },
  };
  await drive({ port, browser, newPage, deeds });
}

main();
