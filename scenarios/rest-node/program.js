// A program written with the official package: it prints what it saw, one JSON object a line. Only `baseUrl` is ours.
const twilio = require("twilio");

const [baseUrl, accountSid, authToken, from] = process.argv.slice(2);
const client = twilio(accountSid, authToken);
client.api.baseUrl = baseUrl;

const tell = (what, seen) => console.log(JSON.stringify({ what, ...seen }));
const until = async (sid, status) => {
  for (;;) {
    const call = await client.calls(sid).fetch();
    if (call.status === status) return call;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const refused = async (what, promise) => {
  try {
    await promise;
    tell(what, { code: 0 });
  } catch (error) {
    tell(what, { code: error.code, status: error.status });
  }
};

(async () => {
  const response = new twilio.twiml.VoiceResponse();
  response.pause({ length: 30 });
  const call = await client.calls.create({ to: "client:bob", from, twiml: response.toString() });
  tell("created", { sid: call.sid, status: call.status, direction: call.direction, dated: call.dateCreated instanceof Date });
  tell("answered", { status: (await until(call.sid, "in-progress")).status });
  tell("redirected", { status: (await client.calls(call.sid).update({ twiml: response.toString() })).status });
  tell("ended", { status: (await client.calls(call.sid).update({ status: "completed" })).status });
  tell("over", { duration: Number((await until(call.sid, "completed")).duration) });
  await refused("ended again", client.calls(call.sid).update({ status: "completed" }));
  await refused("unknown", client.calls("CA" + "0".repeat(32)).fetch());
  await refused("without To", client.calls.create({ to: "", from, url: "http://host/" }));

  const made = [];
  for (let i = 0; i < 12; i += 1) {
    made.push((await client.calls.create({ to: "client:nobody", from, twiml: "<Response/>" })).sid);
  }
  await until(made[11], "failed");
  const listed = (await client.calls.list({ to: "client:nobody", pageSize: 5 })).map((one) => one.sid);
  tell("listed", { inOrder: listed.join() === made.reverse().join(), capped: (await client.calls.list({ limit: 5000 })).length });
  const [notice] = await client.calls(made[0]).notifications.list();
  tell("notified", { code: notice.errorCode });
  tell("numbers", { numbers: (await client.incomingPhoneNumbers.list()).map((one) => one.phoneNumber) });
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
