// A program written with the official package: it prints what it saw, one JSON object a line. Only `baseUrl` is ours.
const twilio = require("twilio");

const [baseUrl, accountSid, authToken, from] = process.argv.slice(2);
const client = twilio(accountSid, authToken);
client.api.baseUrl = baseUrl;
client.trunking.baseUrl = baseUrl;
client.monitor.baseUrl = baseUrl;

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

  const app = await client.applications.create({ friendlyName: "support", voiceUrl: "http://app.test/" });
  const changed = await client.applications(app.sid).update({ voiceMethod: "GET" });
  tell("application", { sid: app.sid.slice(0, 2), method: changed.voiceMethod, url: changed.voiceUrl });
  const number = await client.incomingPhoneNumbers.create({ phoneNumber: "+15552001", voiceApplicationSid: app.sid });
  tell("number", { number: number.phoneNumber, voice: number.capabilities.voice, app: number.voiceApplicationSid === app.sid });
  await refused("number again", client.incomingPhoneNumbers.create({ phoneNumber: "+15552001" }));
  const account = await client.api.v2010.accounts.create({ friendlyName: "customer" });
  const own = twilio(account.sid, account.authToken);
  own.api.baseUrl = baseUrl;
  tell("account", { calls: (await own.calls.list()).length, status: account.status });
  await client.api.v2010.accounts(account.sid).update({ status: "suspended" });
  await refused("suspended", own.calls.list());
  const key = await client.newKeys.create({ friendlyName: "deploy" });
  const byKey = twilio(key.sid, key.secret, { accountSid });
  byKey.api.baseUrl = baseUrl;
  tell("key", { calls: (await byKey.calls.list({ limit: 1 })).length });
  await refused("key of a key", byKey.newKeys.create({}));
  const domain = await client.sip.domains.create({ domainName: "office.sip.test", sipRegistration: true });
  const list = await client.sip.credentialLists.create({ friendlyName: "staff" });
  await client.sip.credentialLists(list.sid).credentials.create({ username: "alice", password: "Secret-Of-Alice-1" });
  await client.sip.domains(domain.sid).auth.calls.credentialListMappings.create({ credentialListSid: list.sid });
  tell("domain", { type: (await client.sip.domains(domain.sid).fetch()).authType });
  const trunk = await client.trunking.v1.trunks.create({ friendlyName: "pbx" });
  for (const priority of [1, 2, 3]) {
    const url = { friendlyName: "pbx", sipUrl: `sip:pbx${priority}.test`, weight: 1, priority, enabled: true };
    await client.trunking.v1.trunks(trunk.sid).originationUrls.create(url);
  }
  const urls = await client.trunking.v1.trunks(trunk.sid).originationUrls.list({ pageSize: 2 });
  tell("trunk", { urls: urls.length, dated: trunk.dateCreated instanceof Date });
  tell("alerts", { code: (await client.monitor.v1.alerts.list({ limit: 1 }))[0].errorCode });
  const [used] = await client.usage.records.list({ category: "calls" });
  tell("usage", { unit: used.usageUnit, counted: typeof used.count });
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
