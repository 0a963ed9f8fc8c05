"""A usage trigger that suspends its account, and a budget that holds: what one edge has written, every edge knows."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import requests

from lib import rtp
from lib.document import Document
from lib.edges import two_edges
from lib.scenario import Scenario, wait_for
from lib.server import OPERATOR_TOKEN, number, trunk
from lib.sip import Phone, sdp

BASE, APP = 18400, 18390
SPENDER, TOKEN = "AC" + "7" * 32, "of-the-spender"
SAVER = "AC" + "8" * 32
OTHERS, SPENDERS, SAVERS = "+15556000000", "+15556000001", "+15556000002"
# Seconds from the use that makes a trigger fire until the suspension counts at every edge.
ENOUGH = 1.0
ANSWERED, REFUSED, USED_UP = "200 OK", "403 Account Not Active", "403 Budget Used Up"
# Of two cents a second: for seven seconds.
BUDGET = "0.14"
TONE_HZ = 1400
NUMBERS = (
    trunk("phones", **{"from": ["127.0.0.1"]})
    + number(OTHERS, "<Echo/>")
    + f'\n[[account]]\nsid = "{SPENDER}"\nauth_token = "{TOKEN}"\n'
    + trunk("phones", account=SPENDER, **{"from": ["127.0.0.2"]})
    + number(SPENDERS, "<Echo/>", account=SPENDER)
    + '\n[[price_book]]\nname = "by-second"\nprices = [{ category = "calls-inbound", per_minute = "1.20", increment = "1/1" }]\n'
    + f'\n[[account]]\nsid = "{SAVER}"\nauth_token = "{TOKEN}"\nprice_book = "by-second"\nbudget = {{ price = "{BUDGET}", recurring = "daily" }}\n'
    + trunk("phones", account=SAVER, **{"from": ["127.0.0.3"]})
    + number(SAVERS, "<Echo/>", account=SAVER)
)


class Usage:
    def __init__(self, scenario):
        self.scenario, self.answered, self.longest = scenario, 0, 0.0

    def start(self):
        self.app = Document(APP, "")
        self.left, self.right, _ = two_edges(self.scenario, BASE, NUMBERS)
        self.phones = {(edge, host): Phone(edge.sip, "+15556100001", local=(host, 0)) for edge in (self.left, self.right) for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3")}

    def ask(self, edge, path, **form):
        """A request of the spender's program."""
        url = f"http://{edge.http}/2010-04-01/Accounts/{SPENDER}{path}"
        return requests.request("POST" if form else "GET", url, data=form, auth=(SPENDER, TOKEN), timeout=5)

    def call(self, edge, called=SPENDERS, host="127.0.0.2"):
        """The answer to a call, which is hung up at once."""
        call = self.phones[edge, host].invite(called, sdp("127.0.0.1", 9))
        answer = call.final()
        if answer.status == 200:
            call.ack()
            self.scenario.equal(call.bye().status, 200, "BYE")
            self.answered += called == SPENDERS
        return answer.start.split(" ", 1)[1]

    def budget(self, edge, **form):
        """The saver's budget of money; changed by the operator."""
        url = f"http://{edge.http}/2010-04-01/Accounts/{SAVER}/Budget.json"
        operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        asked = requests.post(url, data=form, headers=operator, timeout=5) if form else requests.get(url, auth=(SAVER, TOKEN), timeout=5)
        self.scenario.equal(asked.status_code, 200, asked.text)
        return asked.json()["price"]

    def kept(self, here, there):
        """A call that takes all there is hears a tone and ends in time, and meanwhile nobody else has anything; with a larger budget there is more."""
        equal, check = self.scenario.equal, self.scenario.check
        media = rtp.Rtp()
        call = self.phones[here, "127.0.0.3"].invite(SAVERS, sdp(media.host, media.port)).accepted()
        answered = time.monotonic()
        aside = self.budget(there)
        equal((aside["limit"], aside["used"], aside["set_aside"], aside["left"]), (BUDGET, "0", BUDGET, "0"), "the budget while the call runs")
        equal(self.call(there, SAVERS, "127.0.0.3"), USED_UP, "a call at the other edge")
        bye = call.wait_bye(9)
        lasted = time.monotonic() - answered
        check(5 < lasted < 7, f"ended after {lasted:.2f} s of 7")
        check("the budget is used up" in bye.header("Reason"), bye.header("Reason"))
        heard = rtp.ulaw_decode(b"".join(packet.payload for packet in media.packets))
        at = media.packets[0].at - answered
        check(lasted - 3 < at < lasted - 1, f"the tone begins {at:.2f} s after the answer, the call ends after {lasted:.2f} s")
        check(rtp.tone_level(heard[:1600], TONE_HZ) > 1000, f"no tone of {TONE_HZ} Hz")
        media.close()
        wait_for(lambda: self.budget(there)["set_aside"] == "0", 5, "nothing to be set aside any more")
        spent = self.budget(there)
        check(0.10 <= float(spent["used"]) <= float(BUDGET), f"used {spent['used']} of {BUDGET}")
        equal(spent["used"], f"{0.02 * -(-lasted // 1):g}", "two cents a second")
        bill = requests.get(f"http://{here.http}/2010-04-01/Accounts/{SAVER}/Balance.json", auth=(SAVER, TOKEN), timeout=5).json()
        equal((float(bill["balance"]), bill["currency"]), (round(float(BUDGET) - float(spent["used"]), 6), "USD"), "what is left, as the SDKs ask for it")
        equal(self.budget(there, Price="10")["limit"], "10", "the larger budget")
        wait_for(lambda: self.call(here, SAVERS, "127.0.0.3") == ANSWERED, ENOUGH, "calls to be taken again")
        equal(self.call(there, SAVERS, "127.0.0.3"), ANSWERED, "a call at the other edge")
        return f"ended after {lasted:.2f} s, {spent['used']} of {BUDGET} used"

    def is_written(self, edge):
        """Every use there was is in the ledger: no other will come and make a trigger fire."""
        (record,) = self.ask(edge, "/Usage/Records.json?Category=calls").json()["usage_records"]
        return int(record["count"]) == self.answered

    def fired(self, here, there):
        """The trigger is made and fires at one edge; at once the other refuses new calls, and nobody else's. The operator lets the account go on."""
        equal = self.scenario.equal
        wait_for(lambda: self.is_written(here), 3, "what was used before to be written")
        form = {"CallbackUrl": f"http://127.0.0.1:{APP}/fired", "UsageCategory": "calls", "TriggerBy": "count", "TriggerValue": "+2", "Action": "suspend"}
        made = self.ask(here, "/Usage/Triggers.json", **form)
        equal(made.status_code, 201, made.text)
        equal(self.call(there), ANSWERED, "a call at the other edge, which is not enough")
        wait_for(lambda: self.is_written(here), 3, "the first use to be written")
        equal(self.ask(there, "/Calls.json").status_code, 200, "a request at the other edge")
        equal(self.call(here), ANSWERED, "the call after which it fires")
        at, let_in = time.monotonic(), 0
        self.app.wait(made.json()["sid"])
        # It has fired, and does so once: calls at the other edge change nothing.
        while (answer := self.call(there)) == ANSWERED:
            let_in += 1
            self.scenario.check(time.monotonic() < at + ENOUGH, f"{let_in} calls are let in at the other edge {ENOUGH:g} s after the use")
            time.sleep(0.02)
        after = time.monotonic() - at
        self.longest = max(self.longest, after)
        equal(answer, REFUSED, "the answer at the other edge")
        self.scenario.check(after <= ENOUGH, f"the other edge refuses after {after:.2f} s")
        wait_for(lambda: self.call(here) == REFUSED, ENOUGH, "the edge where it fired to refuse too")
        for edge in (here, there):
            equal(self.call(edge), REFUSED, "another call of the account that is suspended")
            asked = self.ask(edge, "/Calls.json")
            equal((asked.status_code, asked.json()["code"]), (403, 20005), "its request")
            equal(self.call(edge, OTHERS, "127.0.0.1"), ANSWERED, "a call of another account")
        operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        active = requests.post(f"http://{there.http}/dialtone/v1/Accounts/{SPENDER}", data={"Status": "active"}, headers=operator, timeout=5)
        equal(active.json().get("status"), "active", "the account, when the operator says so")
        equal(self.call(there), ANSWERED, "a call where that was said")
        wait_for(lambda: self.call(here) == ANSWERED, ENOUGH, "the account to be active at the edge where it fired")
        equal(sum(made.json()["sid"] in told for told in self.app.seen), 1, "how often it was told")
        return f"refused at the other edge after {after * 1000:.0f} ms, {let_in} let in meanwhile"


def main():
    with Scenario(__file__) as scenario:
        usage = Usage(scenario)
        scenario.step("start", usage.start)
        scenario.step("fired at the left", lambda: usage.fired(usage.left, usage.right))
        scenario.step("fired at the right", lambda: usage.fired(usage.right, usage.left))
        scenario.step("kept", lambda: usage.kept(usage.left, usage.right))
        scenario.summary = f"a budget holds, and an account is suspended at both edges {usage.longest * 1000:.0f} ms after the use, at most"


if __name__ == "__main__":
    main()
