// A page's server makes a token with the official package, and the page opens the stream with it. It prints what it sees, one JSON object a line.
const { ClientCapability } = require("twilio").jwt;

const [baseUrl, accountSid, authToken, filters] = process.argv.slice(2);
const capability = new ClientCapability({ accountSid, authToken, ttl: 600 });
capability.addScope(new ClientCapability.EventStreamScope(JSON.parse(filters)));
const token = capability.toJwt();
const tell = (what, seen) => console.log(JSON.stringify({ what, ...seen }));

(async () => {
  const began = performance.now();
  const response = await fetch(`${baseUrl}/2010-04-01/Events`, { headers: { Authorization: `Bearer ${token}` } });
  const scope = JSON.parse(Buffer.from(token.split(".")[1], "base64url")).scope;
  tell("opened", { status: response.status, type: response.headers.get("content-type"), scope, after: performance.now() - began });
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    text += decoder.decode(chunk, { stream: true });
    const frames = text.split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.data) tell(fields.event || "event", { number: fields.id, told: JSON.parse(fields.data) });
    }
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
