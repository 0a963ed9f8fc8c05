// Any program of the official package: it knows nothing of Dialtone.
const client = require("twilio")();

(async () => {
  const call = await client.calls.create({ to: "client:bob", from: "+15552000", twiml: "<Response><Pause/></Response>" });
  const trunk = await client.trunking.v1.trunks.create({ friendlyName: "by another host" });
  const listed = (await client.calls.list({ limit: 5 })).map((one) => one.sid);
  console.log(JSON.stringify({ call: call.sid, listed, trunk: trunk.sid }));
})();
