"""Accounts, their clients' devices, and everybody who looks at them: by REST, by the stream of events, by SIP."""

import collections
import re
import secrets
import threading
import time
import warnings
import xml.etree.ElementTree as xml
from urllib.parse import quote
from xml.sax.saxutils import escape

import requests
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant
from twilio.jwt.client import ClientCapabilityToken
from twilio.rest import Client

from lib.scenario import Failed, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN
from lib.sip import Phone, reply
from lib.stream import Stream

# The secrets of the scenarios are shorter than the package likes.
warnings.filterwarnings("ignore", module="jwt")

# Between two transitions of one client that are told there is a second: after this nothing more comes.
CALM = 1.3
# What is to be told of a client that something was told of just now is told within that second, and a moment.
NEXT = 1.8
# A device whose connection broke may come back within this time, and its client is gone at the latest after that one.
GRACE, GONE = 3.0, 5.0


class Account:
    """An account as its programs see it, at one server."""

    def __init__(self, http, sid=ACCOUNT, secret=AUTH_TOKEN, key=None):
        self.http, self.sid, self.secret = http, sid, secret
        if key is None:
            key = self.program.new_keys.create(friendly_name="presence")
        self.key = key

    @property
    def program(self):
        """The official package's client."""
        client = Client(self.sid, self.secret)
        client.api.base_url = f"http://{self.http}"
        return client

    def at(self, edge):
        """The same account, asked at another edge."""
        return Account(edge.http, self.sid, self.secret, self.key)

    def ask(self, path, method="GET", **query):
        url = f"http://{self.http}/2010-04-01/Accounts/{self.sid}{path}.json"
        return requests.request(method, url, params=query, auth=(self.sid, self.secret), timeout=5)

    def client(self, identity):
        return self.ask(f"/Clients/{quote(identity, safe='')}").json()

    def status(self, identity):
        return self.client(identity)["status"]

    def devices(self, identity):
        return self.ask(f"/Clients/{quote(identity, safe='')}/Devices").json()["devices"]

    def remove(self, identity, sid):
        return self.ask(f"/Clients/{quote(identity, safe='')}/Devices/{sid}", "DELETE").status_code

    def listed(self, size=1000, **query):
        """All clients, page by page."""
        page = self.ask("/Clients", PageSize=size, **query).json()
        clients = page["clients"]
        while page["next_page_uri"]:
            page = self.get(page["next_page_uri"]).json()
            clients += page["clients"]
            if clients[-1:] == clients[-2:-1]:
                raise Failed(f"the page behind {clients[-1]['identity']!r} begins with it again")
        return clients

    def get(self, uri):
        return requests.get(f"http://{self.http}{uri}", auth=(self.sid, self.secret), timeout=5)

    def token(self, identity, incoming=True, ttl=600, **wrong):
        """As a customer's server makes it with the official package; `wrong` are parts of it that are not as they should be."""
        parts = {"account_sid": self.sid, "signing_key_sid": self.key.sid, "secret": self.key.secret} | wrong
        access = AccessToken(**parts, identity=identity, ttl=ttl)
        access.add_grant(VoiceGrant(incoming_allow=incoming))
        return access.to_jwt()

    def open(self, token, device=None, web_socket=False, **query):
        query = {"AccessToken": token} | ({"DeviceId": device} if device else {}) | query
        return Stream(self.http, "/2010-04-01/Registration", query, web_socket=web_socket)

    def register(self, identity, device=None, web_socket=False, ttl=600, **query):
        """A device that is there as long as its connection."""
        opened = self.open(self.token(identity, ttl=ttl), device, web_socket, **query)
        assert opened.is_open, opened.body
        opened.wait_named("registered")
        return opened

    def capability(self, identity):
        """A token of the kind that was there before access tokens."""
        capability = ClientCapabilityToken(self.sid, self.secret)
        capability.allow_client_incoming(identity)
        return capability.to_jwt()

    def listen(self, last=None, **filters):
        capability = ClientCapabilityToken(self.sid, self.secret)
        capability.allow_event_stream(Type="presence", **filters)
        return Listener(self.http, capability.to_jwt(), last)


class Listener:
    """Whoever listens to what is told of the account's clients."""

    def __init__(self, http, token, last=None):
        self.stream = Stream(http, "/2010-04-01/Events", {"AccessToken": token}, last=last)

    @property
    def events(self):
        return [frame for frame in list(self.stream.frames) if not frame.name]

    def of(self, identity):
        return [frame for frame in self.events if frame.data["data"]["identity"] == identity]

    def stories(self):
        """The story of each of whom something was told."""
        stories = collections.defaultdict(list)
        for frame in self.events:
            told = frame.data["data"]
            stories[told["identity"]].append(told["available"])
        return stories

    def story(self, identity):
        """Whether it was there, each time that it was told."""
        return [frame.data["data"]["available"] for frame in self.of(identity)]

    def tells(self, identity, story, seconds=5, calm=CALM):
        """Waits until that was told of a client; then nothing more is. The last of it."""
        try:
            wait_for(lambda: self.story(identity) == story, seconds)
            time.sleep(calm)
        except Failed:
            pass
        if self.story(identity) != story:
            raise Failed(f"{identity} is told {self.story(identity)}, and should be {story} within {seconds:g} s")
        return self.of(identity)[-1] if story else None

    def close(self):
        self.stream.close()


class Device(Phone):
    """A device by SIP, which keeps a name of its own wherever it connects."""

    def __init__(self, sip, user, password, name=None, **more):
        super().__init__(sip, user, password, **more)
        self.name = name

    def register(self, expires=300, contact=None):
        contact = contact or self.contact + (f';+sip.instance="<urn:uuid:{self.name}>";reg-id=1' if self.name else "")
        uri = f"sip:{self.domain}"
        return self.authorized("REGISTER", uri, to=f"<sip:{self.user}@{self.domain}>", headers=[f"Contact: {contact}", f"Expires: {expires}"])[0]

    def unregister(self):
        return self.register(0, "*")

    def publish(self, basic=None, tag=None, expires=300, of=None, note="", event="presence", content_type="application/pidf+xml"):
        """Says how its user is; without `basic` it says that it holds still."""
        uri = f"sip:{of or self.user}@{self.domain}"
        headers = [f"Event: {event}", f"Expires: {expires}"] + ([f"SIP-If-Match: {tag}"] if tag else [])
        body = f'<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="{uri}"><tuple id="a"><status><basic>{basic}</basic></status>'
        body += f"<note>{escape(note)}</note></tuple></presence>"
        return self.authorized("PUBLISH", uri, to=f"<{uri}>", headers=headers, body=body if basic else "", content_type=content_type)[0]

    def keep_registering(self, times):
        """Comes and goes so often, as fast as it is answered; the challenge's nonce is used again and again."""
        uri, to = f"sip:{self.domain}", f"<sip:{self.user}@{self.domain}>"
        challenge = self.exchange(self.build("REGISTER", uri, to=to))
        for at in range(times):
            headers = [f"Expires: {0 if at % 2 else 300}", self.credentials(challenge, "REGISTER", uri)]
            answer = self.exchange(self.build("REGISTER", uri, to=to, headers=headers))
            assert answer.status == 200, answer.start

    def rung(self, seconds=0.3):
        """Whether a call comes to it."""
        return self.transport.find(lambda message: message.is_request and message.method == "INVITE", seconds) is not None


class Subscription:
    """What a watcher knows of one client, by one package."""

    def __init__(self, package, call_id):
        self.package, self.call_id, self.notified = package, call_id, []

    @property
    def state(self):
        return self.notified[-1].header("subscription-state") if self.notified else ""

    @property
    def document(self):
        return xml.fromstring(self.notified[-1].body) if self.notified else None

    def find(self, name):
        """All elements of that name in the last document, whatever they belong to."""
        return [element for element in self.document.iter() if element.tag.rpartition("}")[2] == name]

    @property
    def basic(self):
        return self.find("basic")[0].text

    @property
    def activities(self):
        return [child.tag.rpartition("}")[2] for element in self.find("activities") for child in element]

    @property
    def lamps(self):
        """Direction and state of each call."""
        return [(dialog.get("direction"), dialog[0].text) for dialog in self.find("dialog")]

    @property
    def versions(self):
        return [int(re.search(rb' version="(\d+)" state', notify.body).group(1)) for notify in self.notified]


class Watcher(threading.Thread):
    """A phone that subscribes, and answers what it is told."""

    def __init__(self, sip, user, password, **more):
        super().__init__(daemon=True)
        self.phone, self.subscriptions, self.strays, self.is_open = Phone(sip, user, password, **more), {}, [], True
        self.start()

    def run(self):
        while self.is_open:
            notify = self.phone.transport.find(lambda message: message.is_request and message.method == "NOTIFY", 0.2)
            if notify is None:
                continue
            known = self.subscriptions.get(notify.call_id)
            self.phone.transport.send(reply(notify, 200 if known else 481), notify.source)
            (known.notified if known else self.strays).append(notify)

    def ask(self, who, package="presence", expires=300, headers=(), tag=None):
        """Subscribes: the answer, and the subscription."""
        uri, call_id = f"sip:{who}@{self.phone.domain}", secrets.token_hex(8)
        subscription = self.subscriptions[call_id] = Subscription(package, call_id)
        subscription.local = f"<sip:{self.phone.user}@{self.phone.domain}>;tag={secrets.token_hex(4)}"
        headers = [f"Event: {package}", f"Expires: {expires}", f"Contact: {self.phone.contact}", *headers]
        to = f"<{uri}>" + (f";tag={tag}" if tag else "")
        answer, _ = self.phone.authorized("SUBSCRIBE", uri, call_id=call_id, from_=subscription.local, to=to, headers=headers)
        subscription.answer, subscription.cseq = answer, 2
        return answer, subscription

    def subscribe(self, who, package="presence", expires=300, headers=()):
        answer, subscription = self.ask(who, package, expires, headers)
        assert answer.status == 200, answer.start
        wait_for(lambda: subscription.notified, 2, f"the first NOTIFY of {package}")
        return subscription

    def again(self, subscription, expires=300):
        """Goes on with it, or ends it."""
        subscription.cseq += 1
        headers = [f"Event: {subscription.package}", f"Expires: {expires}", f"Contact: {self.phone.contact}"]
        answer = subscription.answer
        text = self.phone.build("SUBSCRIBE", answer.contact_uri(), subscription.call_id, subscription.cseq, answer.header("to"), subscription.local, headers)
        return self.phone.exchange(text)

    def close(self):
        self.is_open = False
        self.join(1)
        self.phone.close()
