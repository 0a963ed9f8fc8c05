"""The long form: a hundred thousand phones at one server."""

import socket
import time

import requests

from lib.edges import child
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config
from lib.sip import Message, credentials

SIP, HTTP, RTP = ("127.0.0.1", 20120), "127.0.0.1:20121", "20122-20149"
PHONES, SECRET, MD5 = 100_000, "secret-of-all", "MD5"
# From one address.
EACH = 100
MOST_MB = 200


class ManyPhones:
    def __init__(self, scenario):
        self.scenario = scenario

    def start(self):
        users = "".join(f'\n[[user]]\naccount = "{ACCOUNT}"\nusername = "phone-{number}"\npassword = "{SECRET}"\n' for number in range(PHONES))
        config = base_config(f"{SIP[0]}:{SIP[1]}", HTTP, RTP, sip_more=f'digest = ["{MD5}"]\n', more=users)
        self.server = Server(self.scenario, config, "many").start()

    def registered(self):
        """All register, by digest, from one address; the server's memory before and after."""
        before = self.resident()
        began = time.monotonic()
        self.register()
        seconds = time.monotonic() - began
        self.server.wait_metric(PHONES, "dialtone_registrations", seconds=10)
        self.server.wait_metric(PHONES, "dialtone_presence_identities", status="available", seconds=20)
        after = self.resident()
        url = f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}/Clients/phone-{PHONES - 1}.json"
        self.scenario.equal(requests.get(url, auth=(ACCOUNT, AUTH_TOKEN), timeout=10).json()["status"], "available", "the last of them")
        taken = (after - before) / 1024
        self.scenario.check(taken < MOST_MB, f"{taken:.0f} MB for {PHONES} registrations, of {MOST_MB}")
        return f"{PHONES} registrations in {seconds:.0f} s: {taken:.0f} MB beyond the {before / 1024:.0f} MB of a server with as many users, {taken * 1024 / PHONES:.2f} kB each"

    def register(self):
        """A hundred from each address: of one only so many are challenged in a second."""
        for first in range(0, PHONES, EACH):
            batch = first // EACH
            local = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            local.bind((f"127.2.{batch // 200}.{1 + batch % 200}", 0))
            local.settimeout(0.5)
            self.register_from(local, range(first, first + EACH))
            local.close()

    def register_from(self, local, phones):
        host, port = local.getsockname()
        waiting = {}

        def send(number, cseq, authorization=""):
            user = f"phone-{number}"
            text = (
                f"REGISTER sip:dialtone SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{number}-{cseq};rport\r\nFrom: <sip:{user}@dialtone>;tag={number}\r\nTo: <sip:{user}@dialtone>\r\n"
                f"Call-ID: {number}\r\nCSeq: {cseq} REGISTER\r\nMax-Forwards: 70\r\nContact: <sip:{user}@{host}:{port}>\r\nExpires: 3600\r\n{authorization}Content-Length: 0\r\n\r\n"
            )
            waiting[number] = (cseq, authorization)
            local.sendto(text.encode(), SIP)

        for number in phones:
            send(number, 1)
        tries = 0
        while waiting:
            try:
                answer = Message(local.recv(4096))
            except TimeoutError:
                tries += 1
                self.scenario.check(tries < 20, f"{len(waiting)} phones of {host} cannot register")
                for number, sent in list(waiting.items()):
                    send(number, *sent)
                continue
            number = int(answer.call_id)
            if number not in waiting or answer.cseq != waiting[number][0]:
                continue
            challenge = answer.header("www-authenticate")
            # The server remembers so many nonces; of one that it has forgotten it says that it is stale.
            if answer.status == 401 and (answer.cseq == 1 or "stale=true" in challenge):
                value = credentials(challenge, f"phone-{number}", SECRET, "REGISTER", "sip:dialtone")
                send(number, answer.cseq + 1, f"Authorization: {value}\r\n")
                continue
            self.scenario.equal(answer.status, 200, f"REGISTER of phone {number}")
            del waiting[number]

    def resident(self):
        """kB that the edge has."""
        edge = child(self.server, "edge")
        return next(int(line.split()[1]) for line in open(f"/proc/{edge}/status") if line.startswith("VmRSS"))
