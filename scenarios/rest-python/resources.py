"""What the program makes by the API, and calls that go by it."""

import datetime

from twilio.rest import Client

from lib.scenario import wait_for
from lib.server import ACCOUNT, OF_LEGS
from lib.sip import Phone, reply, sdp

DOMAIN, PASSWORD = "office.sip.test", "Secret-Of-Alice-1"


class Resources:
    def __init__(self, rest, sip, url, carrier, far):
        self.rest, self.scenario, self.sip, self.url, self.carrier, self.far = rest, rest.scenario, sip, url, carrier, far

    @property
    def client(self):
        return self.rest.client

    def applications(self):
        """Made, found, changed; run by a call; deleted."""
        equal, apps = self.scenario.equal, self.client.applications
        made = apps.create(friendly_name="support", voice_url=f"{self.url}/application", status_callback=f"{self.url}/status")
        equal((made.friendly_name, made.voice_method, made.voice_url), ("support", "POST", f"{self.url}/application"), "an application")
        self.scenario.check(isinstance(made.date_created, datetime.datetime), f"date_created {made.date_created!r}")
        equal(apps(made.sid).update(voice_method="GET").voice_method, "GET", "a change")
        apps(made.sid).update(voice_method="POST")
        equal([one.sid for one in apps.list(friendly_name="support")], [made.sid], "applications by name")
        call = self.client.calls.create(to="client:bob", from_="+15552000", application_sid=made.sid)
        incoming = self.rest.bob.wait_invite()
        incoming.accept(sdp("127.0.0.1", 9))
        wait_for(lambda: self.rest.app.to("/application", CallSid=call.sid), 5, "the document of the application")
        self.client.calls(call.sid).update(status="completed")
        incoming.wait_bye()
        wait_for(lambda: self.rest.app.to("/status", CallSid=call.sid), 5, "the callback of the application")
        more = [apps.create(friendly_name=f"more {number}").sid for number in range(7)]
        equal({one.sid for one in apps.list(page_size=3)}, {made.sid, *more}, "pages of applications")
        self.rest.refused(21218, lambda: self.client.calls.create(to="client:bob", from_="+15552000", application_sid="AP" + "0" * 32))
        for sid in (*more, made.sid):
            self.scenario.check(apps(sid).delete(), "delete")
        self.rest.refused(20404, apps(made.sid).fetch)

    def messages(self):
        """A text goes to a phone by SIP MESSAGE, and its status says what became of it; others than one's users are refused."""
        equal, messages, bob = self.scenario.equal, self.client.messages, self.rest.bob

        def send(text, status, **more):
            made = messages.create(to="client:bob", from_="+15552000", body=text, status_callback=f"{self.url}/message", **more)
            equal((made.status, made.direction, made.num_segments, made.num_media), ("queued", "outbound-api", "1", "0"), "a new message")
            got = bob.transport.wait(lambda m: m.is_request and m.method == "MESSAGE", 5, "a MESSAGE")
            equal((got.body.decode(), got.header("content-type")), (text, "text/plain;charset=UTF-8"), "what the phone gets")
            if status:
                bob.transport.send(reply(got, status), got.source)
            return made

        read = send("Grüße, Bob", 200)
        wait_for(lambda: messages(read.sid).fetch().status == "delivered", 5, "the message to be delivered")
        wait_for(lambda: len(self.rest.app.to("/message", MessageSid=read.sid)) == 2, 5, "both steps to be told")
        equal([one["MessageStatus"] for one in self.rest.app.to("/message", MessageSid=read.sid)], ["sent", "delivered"], "steps")
        refused = send("no", 603)
        wait_for(lambda: messages(refused.sid).fetch().status == "undelivered", 5, "the message to be refused")
        equal(messages(refused.sid).fetch().error_code, 30008, "why")
        answer, _ = bob.authorized("MESSAGE", "sip:bob@dialtone", body="to myself", content_type="text/plain")
        own = bob.transport.wait(lambda m: m.is_request and m.method == "MESSAGE" and m.body == b"to myself", 5, "the MESSAGE of a phone")
        self.rest.server.wait_metric(1, "dialtone_queue_depth", gateway="default", kind="message")
        bob.transport.send(reply(own, 200), own.source)
        self.rest.server.wait_metric(0, "dialtone_queue_depth", kind="message")
        equal(answer.status, 202, "the answer to a phone's MESSAGE")
        wait_for(lambda: messages.list(to="client:bob")[0].status == "delivered", 5, "it to be delivered")
        by_phone = messages.list(to="client:bob")[0]
        equal((by_phone.direction, by_phone.from_, by_phone.body), ("inbound", "sip:bob@dialtone", "to myself"), "a phone's message")
        self.scenario.check(messages(by_phone.sid).delete(), "delete")
        self.conversation(bob)
        for to in ("+15557777777", "client:nobody", "sip:x@192.0.2.1"):
            self.rest.refused(21612, lambda: messages.create(to=to, from_="+15552000", body="x"))
        for code, wrong in ((21602, {"body": ""}), (21606, {"from_": "+4930"}), (21617, {"body": "x" * 1601}), (20001, {"media_url": [self.url]})):
            self.rest.refused(code, lambda: messages.create(**{"to": "client:bob", "from_": "+15552000", "body": "x"} | wrong))
        equal([one.sid for one in messages.list(to="client:bob", page_size=1)], [refused.sid, read.sid], "messages, the newest first")
        equal(messages.list(from_="+4930"), [], "messages of another")
        equal(messages(read.sid).update(body="").body, "", "a text that is taken away")
        equal(messages(read.sid).media.list(), [], "media")
        self.rest.server.kept("message", [read.sid, refused.sid])
        equal([one.body for one in messages.list(to="client:bob")], ["no", ""], "messages from the store")
        self.scenario.check(messages(read.sid).delete(), "delete")
        self.rest.refused(20404, messages(read.sid).fetch)

    def conversation(self, bob):
        """A phone writes to a number, whose application answers with the official package."""
        equal, messages = self.scenario.equal, self.client.messages
        number = self.client.incoming_phone_numbers.create(phone_number="+15552009", sms_url=f"{self.url}/sms")
        equal((number.sms_url, number.capabilities["sms"]), (f"{self.url}/sms", True), "a number for texts")
        answer, _ = bob.authorized("MESSAGE", "sip:+15552009@dialtone", body="Öffnungszeiten?", content_type="text/plain")
        equal(answer.status, 202, "the answer to a text to a number")
        got = bob.transport.wait(lambda m: m.is_request and m.method == "MESSAGE" and m.body.startswith(b"You"), 5, "the application's answer")
        equal((got.body.decode(), "+15552009" in got.header("from")), ("You said: Öffnungszeiten?", True), "the application's answer")
        bob.transport.send(reply(got, 200), got.source)
        asked = wait_for(lambda: self.rest.app.to("/sms"), 5, "the application to be asked")[0]
        equal((asked["From"], asked["To"], asked["SmsStatus"]), ("sip:bob@dialtone", "+15552009", "received"), "what it is told")
        came = messages(asked["MessageSid"]).fetch()
        equal((came.status, came.direction, came.body, came.error_code), ("received", "inbound", "Öffnungszeiten?", None), "the text")
        sent = wait_for(lambda: [one for one in messages.list(to="sip:bob@dialtone") if one.status == "delivered"], 5, "the answer to be delivered")[0]
        equal((sent.direction, sent.from_, sent.body), ("outbound-reply", "+15552009", "You said: Öffnungszeiten?"), "the answer")
        for sid in (came.sid, sent.sid):
            self.scenario.check(messages(sid).delete(), "delete")
        self.scenario.check(number.delete(), "delete of the number")

    def numbers(self):
        """A number is answered from the moment that it is made; one of the file can be changed."""
        equal, numbers = self.scenario.equal, self.client.incoming_phone_numbers
        made = numbers.create(phone_number="+15552001", voice_url=f"{self.url}/first-number")
        equal((made.phone_number, made.origin, made.capabilities["voice"]), ("+15552001", "hosted", True), "a number")
        self.called("+15552001", "/first-number")
        numbers(made.sid).update(voice_url=f"{self.url}/second-number", friendly_name="sales")
        self.called("+15552001", "/second-number")
        equal([one.sid for one in numbers.list(friendly_name="sales")], [made.sid], "numbers by name")
        self.rest.refused(21422, lambda: numbers.create(phone_number="+15552001"))
        of_file = numbers.list(phone_number="+15552000")[0]
        numbers(of_file.sid).update(voice_url=f"{self.url}/changed")
        self.called("+15552000", "/changed")
        self.rest.refused(20001, numbers(of_file.sid).delete)
        self.scenario.check(numbers(made.sid).delete(), "delete")
        phone = Phone(self.sip, "+15559000", local=(self.carrier, 0))
        equal(phone.invite("+15552001", sdp("127.0.0.1", 9)).final().status, 404, "a number that was deleted")
        phone.close()
        self.client.validation_requests.create(phone_number="+15558888", friendly_name="mobile", status_callback=f"{self.url}/verified")
        own = self.client.outgoing_caller_ids.list(phone_number="+15558888")
        equal([one.friendly_name for one in own], ["mobile"], "caller ids")
        wait_for(lambda: self.rest.app.to("/verified", VerificationStatus="success", OutgoingCallerIdSid=own[0].sid, valid=True), 5, "the callback")
        self.scenario.check(own[0].delete(), "delete of a caller id")

    def called(self, number, path):
        phone = Phone(self.sip, "+15559000", local=(self.carrier, 0))
        call = phone.invite(number, sdp("127.0.0.1", 9)).accepted()
        wait_for(lambda: self.rest.app.to(path), 5, f"{path} for {number}")
        self.scenario.equal(call.bye().status, 200, "BYE")
        phone.close()

    def accounts(self):
        """An account below one's own: it calls for itself, is suspended, and is closed."""
        equal = self.scenario.equal
        made = self.client.api.accounts.create(friendly_name="customer")
        equal((made.status, made.owner_account_sid, len(made.auth_token)), ("active", ACCOUNT, 32), "an account")
        own = self.rest.login(made.sid, made.auth_token)
        equal(own.api.accounts(made.sid).fetch().friendly_name, "customer", "its own view")
        self.rest.refused(20404, own.api.accounts(ACCOUNT).fetch)
        above = Client(ACCOUNT, self.client.password, made.sid)
        above.api.base_url = self.client.api.base_url
        number = above.incoming_phone_numbers.create(phone_number="+15552002")
        equal([one.phone_number for one in own.incoming_phone_numbers.list()], ["+15552002"], "its numbers")
        above.incoming_phone_numbers(number.sid).update(account_sid=ACCOUNT)
        equal((own.incoming_phone_numbers.list(), self.client.incoming_phone_numbers(number.sid).fetch().account_sid), ([], ACCOUNT), "a number that goes up")
        self.client.incoming_phone_numbers(number.sid).delete()
        self.client.api.accounts(made.sid).update(status="suspended")
        self.rest.refused(20005, own.calls.list)
        equal([one.sid for one in self.client.api.accounts.list(status="suspended")], [made.sid], "suspended accounts")
        self.client.api.accounts(made.sid).update(status="active")
        equal(own.calls.list(), [], "its calls")
        equal(self.client.api.accounts(made.sid).update(status="closed").status, "closed", "the end")

    def keys(self):
        equal = self.scenario.equal
        made = self.client.new_keys.create(friendly_name="deploy")
        client = Client(made.sid, made.secret, ACCOUNT)
        client.api.base_url = self.client.api.base_url
        self.scenario.check(client.calls.list(limit=1), "calls by key")
        self.rest.refused(20006, client.keys.list)
        equal([one.sid for one in self.client.keys.list()], [made.sid], "keys")
        equal(self.client.keys(made.sid).update(friendly_name="ops").friendly_name, "ops", "a change")
        self.client.keys(made.sid).delete()
        self.rest.refused(20003, lambda: client.calls.list(limit=1))
        equal((self.client.balance.fetch().balance, self.client.tokens.create().ttl), ("0.00", "86400"), "balance and token")

    def domains(self):
        """A user of a domain registers, calls and is called."""
        equal, sip = self.scenario.equal, self.client.sip
        domain = sip.domains.create(domain_name=DOMAIN, voice_url=f"{self.url}/office", sip_registration=True)
        credentials = sip.credential_lists.create(friendly_name="staff")
        member = sip.credential_lists(credentials.sid).credentials.create(username="alice", password=PASSWORD)
        equal((member.username, member.credential_list_sid), ("alice", credentials.sid), "a credential")
        alice = Phone(self.sip, "alice", PASSWORD, domain=DOMAIN)
        equal(alice.register().status, 401, "REGISTER before the list is put to use")
        auth = sip.domains(domain.sid).auth
        auth.registrations.credential_list_mappings.create(credential_list_sid=credentials.sid)
        auth.calls.credential_list_mappings.create(credential_list_sid=credentials.sid)
        equal(alice.register().status, 200, "REGISTER")
        call = alice.invite("anybody", sdp("127.0.0.1", 9)).accepted()
        wait_for(lambda: self.rest.app.to("/office"), 5, "the domain's document")
        asked = self.rest.app.to("/office")[0]
        equal((asked["To"], asked["From"], asked["SipDomain"]), (f"sip:anybody@{DOMAIN}", f"sip:alice@{DOMAIN}", DOMAIN), "what it is told")
        call.bye()
        self.client.calls.create(to=f"sip:alice@{DOMAIN}", from_="+15552000", twiml="<Response/>")
        incoming = alice.wait_invite()
        incoming.accept(sdp("127.0.0.1", 9))
        incoming.wait_bye()
        fetched = sip.domains(domain.sid).fetch()
        equal((fetched.auth_type, fetched.sip_registration), ("CREDENTIAL_LIST", True), "the domain")
        access = sip.ip_access_control_lists.create(friendly_name="office")
        address = sip.ip_access_control_lists(access.sid).ip_addresses.create(friendly_name="far", ip_address="192.0.2.0", cidr_prefix_length=24)
        equal((address.ip_address, address.cidr_prefix_length), ("192.0.2.0", 24), "an address")
        sip.domains(domain.sid).ip_access_control_list_mappings.create(ip_access_control_list_sid=access.sid)
        equal([one.sid for one in auth.calls.ip_access_control_list_mappings.list()], [access.sid], "mappings")
        equal(alice.invite("anybody", sdp("127.0.0.1", 9)).final().status, 403, "a call from elsewhere")
        for part in (sip.ip_access_control_lists(access.sid), sip.credential_lists(credentials.sid), sip.domains(domain.sid)):
            self.scenario.check(part.delete(), "delete")
        equal(sip.domains.list(), [], "domains")
        self.rest.refused(20001, lambda: sip.domains.create(domain_name="not a name"))
        alice.close()

    def trunks(self):
        """Calls to the trunk's number go to its URL, and calls to its domain are dialled."""
        equal, trunking = self.scenario.equal, self.client.trunking.v1
        self.client.trunking.base_url = self.client.api.base_url
        trunk = trunking.trunks.create(friendly_name="pbx", domain_name="pbx.sip.test")
        pbx = Phone(self.sip, "pbx")
        url = trunking.trunks(trunk.sid).origination_urls.create(
            friendly_name="pbx", sip_url=f"sip:{pbx.transport.address}", weight=10, priority=1, enabled=True
        )
        equal((url.weight, url.enabled, url.trunk_sid), (10, True, trunk.sid), "an origination url")
        busy = Phone(self.sip, "busy")
        trunking.trunks(trunk.sid).origination_urls.create(
            friendly_name="first", sip_url=f"sip:{busy.transport.address}", weight=1, priority=0, enabled=True
        )
        number = self.client.incoming_phone_numbers.create(phone_number="+15552003", voice_url=f"{self.url}/dialled-number")
        trunking.trunks(trunk.sid).phone_numbers.create(phone_number_sid=number.sid)
        equal([one.phone_number for one in trunking.trunks(trunk.sid).phone_numbers.list()], ["+15552003"], "numbers of the trunk")
        phone = Phone(self.sip, "+15559000", local=(self.carrier, 0))
        call = phone.invite("+15552003", sdp("127.0.0.1", 9))
        busy.wait_invite().respond(503)
        incoming = pbx.wait_invite()
        self.scenario.check(incoming.invite.start.startswith("INVITE sip:+15552003@"), incoming.invite.start)
        incoming.accept(sdp("127.0.0.1", 9))
        call.accepted().bye()
        incoming.wait_bye()
        self.recorded_and_rescued(trunk.sid, phone, pbx, busy)
        trunking.trunks(trunk.sid).phone_numbers(number.sid).delete()
        access = self.client.sip.ip_access_control_lists.create(friendly_name="pbx")
        self.client.sip.ip_access_control_lists(access.sid).ip_addresses.create(friendly_name="here", ip_address="127.0.0.1")
        trunking.trunks(trunk.sid).ip_access_control_lists.create(ip_access_control_list_sid=access.sid)
        inside = Phone(self.sip, "anybody", domain="pbx.sip.test")
        call = inside.invite("+15552003", sdp("127.0.0.1", 9)).accepted()
        wait_for(lambda: self.rest.app.to("/dialled-number"), 5, "the number that was dialled by the trunk")
        call.bye()
        equal(trunking.trunks(trunk.sid).fetch().auth_type, "IP_ACL", "the trunk")
        equal(len(trunking.trunks.list(page_size=1)), 1, "trunks")
        for part in (trunking.trunks(trunk.sid), self.client.sip.ip_access_control_lists(access.sid), self.client.incoming_phone_numbers(number.sid)):
            self.scenario.check(part.delete(), "delete")
        for part in (phone, pbx, busy, inside):
            part.close()

    def recorded_and_rescued(self, trunk, phone, pbx, busy):
        """What the trunk says of recording holds for its calls; where its URLs fail, the one of disaster recovery is asked."""
        equal, trunks = self.scenario.equal, self.client.trunking.v1.trunks
        equal(trunks(trunk).recordings().update(mode="record-from-answer-dual").mode, "record-from-answer-dual", "recording")
        trunks(trunk).update(disaster_recovery_url=f"{self.url}/disaster", disaster_recovery_method="POST")
        call = phone.invite("+15552003", sdp("127.0.0.1", 9))
        busy.wait_invite().respond(503)
        incoming = pbx.wait_invite()
        incoming.accept(sdp("127.0.0.1", 9))
        call.accepted()
        running = self.client.calls.list(to="+15552003", status="in-progress")[0].sid
        wait_for(lambda: self.client.calls(running).recordings.list(), 5, "the recording of the trunk's call")
        incoming.bye()
        call.wait_bye()
        self.rest.becomes(running, "completed")
        recording = self.client.calls(running).recordings.list()[0]
        equal((recording.channels, recording.source), (2, "DialVerb"), "the recording")
        equal(self.rest.app.to("/disaster"), [], "a call that was taken needs no rescue")
        call = phone.invite("+15552003", sdp("127.0.0.1", 9))
        busy.wait_invite().respond(503)
        pbx.wait_invite().respond(503)
        call.accepted()
        asked = self.rest.app.to("/disaster")
        equal([(one["To"], one["From"], one["valid"]) for one in asked], [("+15552003", "+15559000", True)], "what is asked")
        call.bye()

    def forwarded(self):
        """The number of a caller whom the carrier vouches for is shown to whom the program calls, by the token of the call."""
        equal = self.scenario.equal
        far = Phone(self.sip, "far", local=self.far)
        access = self.client.incoming_phone_numbers.create(phone_number="+15552004", voice_url=f"{self.url}/forward")
        signed = "eyJhbGciOiJFUzI1NiJ9.eyJvcmlnIjp7InRuIjoiMTU1NTkwMDEifX0.c2ln"
        caller = Phone(self.sip, "+15559001", local=(self.carrier, 0))
        asserted = "P-Asserted-Identity: <sip:+15559001@carrier.test;verstat=TN-Validation-Passed-A>"
        call = caller.invite("+15552004", sdp("127.0.0.1", 9), headers=[asserted, f"Identity: {signed};info=<https://cert.test/c>;alg=ES256"])
        call.accepted()
        asked = self.rest.app.to("/forward")[0]
        equal((asked["StirVerstat"], asked["StirPassportToken"]), ("TN-Validation-Passed-A", signed), "what the carrier says")
        place = lambda **more: self.client.calls.create(to="+15554567", twiml="<Response/>", **more)
        self.rest.refused(21210, lambda: place(from_="+15559001"))
        self.rest.refused(20001, lambda: place(from_="+15559002", call_token=asked["CallToken"]))
        self.rest.refused(20001, lambda: place(from_="+15559001", call_token="CA" + "0" * 32))
        doubtful = caller.invite("+15552004", sdp("127.0.0.1", 9), headers=[asserted.replace("Passed-A", "Failed")])
        doubtful.accepted()
        other = self.rest.app.to("/forward")[1]
        equal((other["StirVerstat"], "CallToken" in other), ("TN-Validation-Failed", False), "of one whose number may be another's")
        self.rest.refused(20001, lambda: place(from_="+15559001", call_token=other["CallSid"]))
        doubtful.bye()
        equal(self.client.calls(asked["CallSid"]).fetch().stir_verstat, "TN-Validation-Passed-A", "the call")
        made = place(from_="+15559001", call_token=asked["CallToken"])
        incoming = far.wait_invite()
        self.scenario.check("+15559001@" in incoming.invite.header("from"), f"From: {incoming.invite.header('from')}")
        incoming.respond(486)
        self.rest.becomes(made.sid, "busy")
        reasoned = self.client.calls.create(to="client:nobody", from_="me", twiml="<Response/>", call_reason="a reason")
        self.rest.becomes(reasoned.sid, "failed")
        told = [one.message_text for one in self.client.calls(reasoned.sid).notifications.list(log=1)]
        self.scenario.check(any("CallReason" in text for text in told), f"what is passed over is told: {told}")
        call.bye()
        self.client.incoming_phone_numbers(access.sid).delete()
        for part in (far, caller):
            part.close()

    def records(self):
        """Usage, notifications and alerts of what was done so far."""
        equal = self.scenario.equal
        self.rest.server.written([one.sid for one in self.client.calls.list(status="completed")])
        today = self.client.usage.records.today.list(category="calls")
        total = self.client.usage.records.list(category="calls")
        rows = self.rest.server.rows(f"SELECT count(*), sum((quantity + 59) / 60) FROM ledger WHERE {OF_LEGS}")[0]
        equal([(int(one.count), int(one.usage)) for one in total], [rows], "usage of all time")
        self.scenario.check(len(today) == 1 and today[0].usage_unit == "minutes", f"usage of today: {today}")
        daily = self.client.usage.records.daily.list(category="calls", start_date=datetime.date.today() - datetime.timedelta(days=5))
        self.scenario.check(len(daily) in (5, 6, 7) and sum(int(one.count) for one in daily) == rows[0], f"{len(daily)} days")
        found = self.client.notifications.list(log=0)
        self.scenario.check(any(one.error_code == "13223" for one in found), "notifications of the account")
        equal(self.client.notifications(found[0].sid).fetch().call_sid, found[0].call_sid, "a notification")
        self.client.monitor.base_url = self.client.api.base_url
        alerts = self.client.monitor.v1.alerts.list(log_level="error")
        equal([one.sid for one in alerts], [one.sid for one in found], "alerts")
        self.scenario.check(isinstance(alerts[0].date_created, datetime.datetime), f"date_created {alerts[0].date_created!r}")
        asked = self.client.calls(self.client.calls.list(status="completed", limit=1)[0].sid).events.list()
        self.scenario.check(all(one.request["url"] for one in asked), f"events {asked}")

    def backup(self):
        """A copy that is made while the server runs brings back what was there, and nothing later."""
        server, apps = self.rest.server, self.client.applications
        first = apps.create(friendly_name="before the copy").sid
        self.scenario.equal(server.run("backup", "--config", "dialtone.toml", "copy.db")[0], 0, "exit code of the backup")
        apps.create(friendly_name="after the copy")
        calls = len(self.client.calls.list())
        code, told = server.run("restore", "--config", "dialtone.toml", "copy.db")
        self.scenario.check(code == 1 and "stop the server first" in told, f"restore beside a running server: {told}")
        self.scenario.equal(server.stop(), 0, "exit code")
        code, told = server.run("restore", "--config", "dialtone.toml", "copy.db")
        self.scenario.check(code == 0 and "before-restore" in told, f"restore: {told}")
        server.start()
        self.scenario.equal([one.sid for one in apps.list()], [first], "applications after the restore")
        self.scenario.equal(len(self.client.calls.list()), calls, "calls after the restore")
        apps(first).delete()

    def triggers(self):
        """A trigger whose value is reached tells its URL, once, signed."""
        used = int(self.client.usage.records.list(category="calls")[0].count)
        over, under = (
            self.client.usage.triggers.create(
                callback_url=f"{self.url}/trigger", trigger_value=str(value), usage_category="calls", trigger_by="count", recurring="daily"
            )
            for value in (1, used + 1000)
        )
        self.scenario.equal(over.current_value, str(used), "a trigger")
        self.scenario.check(over.date_fired is not None, "so much was used already: it fires at once")
        wait_for(lambda: self.rest.app.to("/trigger"), 2, "the callback of the trigger")
        # A restart tells it to nobody again.
        for _ in range(2):
            self.scenario.equal(self.rest.server.stop(), 0, "exit code")
            self.rest.server.start()
            wait_for(lambda: self.rest.app.to("/trigger"), 10, "the callback of the trigger")
            wait_for(lambda: self.client.usage.triggers(over.sid).fetch().date_fired, 10, "date_fired")
        told = self.rest.app.to("/trigger")
        self.scenario.equal([one["UsageTriggerSid"] for one in told], [over.sid], "who was told of")
        self.scenario.equal((told[0]["UsageCategory"], told[0]["TriggerValue"], told[0]["CurrentValue"]), ("calls", "1", str(used)), "what")
        self.scenario.equal(self.client.usage.triggers(under.sid).fetch().date_fired, None, "the one that is not reached")
        for sid in (over.sid, under.sid):
            self.client.usage.triggers(sid).delete()
