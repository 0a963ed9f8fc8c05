"""Queues: what those hear and are told who wait, who takes whom, and how each learns of the end."""

import time

from application import NOISES, enqueue, take
from lib.scenario import wait_for

STANDS = {"QueueSid", "QueuePosition", "QueueTime", "AvgQueueTime", "CurrentQueueSize"}


class Queues:
    """Each part has a queue of its own, by its own name."""

    def __init__(self, rooms, refused):
        self.rooms, self.scenario, self.ears, self.refused = rooms, rooms.scenario, rooms.ears, refused
        self.app, self.client, self.telephones = rooms.app, rooms.client, rooms.telephones

    def enqueue(self, name, queue, position=None, **attributes):
        """Calls and waits, with music of ours or the customer's."""
        telephone = self.telephones.call(name, enqueue(queue, **attributes))
        if attributes.get("wait_url"):
            asked = self.app.wait(attributes["wait_url"], CallSid=telephone.sid)
            known = self.app.known.get(asked["QueueSid"])
            self.scenario.check(known, f"the queue {queue} is not there when its sid is told")
            self.scenario.check(STANDS <= set(asked), f"what the wait document of {name} is told lacks {STANDS - set(asked)}")
            self.scenario.equal((asked["QueuePosition"], asked["QueueTime"]), (str(position), "0"), f"place of {name}")
            self.scenario.check(int(asked["CurrentQueueSize"]) >= position and int(asked["AvgQueueTime"]) >= 0, f"size and average: {asked}")
        else:
            wait_for(lambda: telephone.sid in self.waiting(queue), 3, f"{name} to wait")
        return telephone

    def take(self, name, queue, **attributes):
        return self.telephones.call(name, take(queue, **attributes))

    def resource(self, name):
        """The one queue of that name."""
        found = [one for one in self.client.queues.list() if one.friendly_name == name]
        self.scenario.check(len(found) <= 1, f"{len(found)} queues {name}")
        return found[0] if found else None

    def waiting(self, name):
        """Who waits, in order."""
        queue = self.resource(name)
        return [one.call_sid for one in queue.members.list()] if queue else []

    def result(self, telephone, result, least=0, most=60):
        """What the action of Enqueue is told: how it ended, and after how many seconds of waiting."""
        told = self.app.wait("/dequeued", CallSid=telephone.sid)
        self.scenario.equal(told["QueueResult"], result, f"QueueResult of {telephone.name}")
        self.scenario.check(least <= int(told["QueueTime"]) <= most, f"{telephone.name} waited {least} to {most} s, and {told['QueueTime']} is told")
        self.scenario.check(told["QueueSid"].startswith("QU"), f"QueueSid {told['QueueSid']}")
        return told

    def served(self):
        """First come, first served; each pair hears each other and nobody else; a whisper before; either side may end it."""
        ears, equal = self.ears, self.scenario.equal
        since = time.monotonic()
        sam = self.enqueue("sam", "served", 1, wait_url="/play/wait")
        uma = self.enqueue("uma", "served", 2, wait_url="/play/wait")
        for telephone in (sam, uma):
            ears.hears(telephone, NOISES["wait"], since, "the music of the customer's")
        vic = self.enqueue("vic", "served")
        ears.hears(vic, self.rooms.music, since, "the music of one who waits")
        equal(self.waiting("served"), [sam.sid, uma.sid, vic.sid], "who waits")
        queue = self.resource("served")
        equal({params["QueueSid"] for params in self.app.to("/play/wait", CallSid=sam.sid)}, {queue.sid}, "QueueSid of the requests")
        sizes = lambda: {params["CurrentQueueSize"] for params in self.app.to("/play/wait", CallSid=uma.sid)}
        wait_for(lambda: "3" in sizes(), 3, f"a size of 3 to be told: {sizes()}")

        since = time.monotonic()
        wes = self.take("wes", "served", url="/play/whisper")
        ears.hears(sam, NOISES["whisper"], since, "what the taker has it hear")
        ears.lacks(wes, NOISES["whisper"], since, "what the member hears before")
        whispered = self.app.wait("/play/whisper", CallSid=sam.sid)
        equal((whispered["QueueSid"], whispered["DequeingCallSid"]), (queue.sid, wes.sid), "the request for the whisper")
        self.scenario.check(0 <= int(whispered["QueueTime"]) <= time.monotonic() - since + 8, f"QueueTime {whispered['QueueTime']}")
        ears.silence(sam)
        ears.speaks(sam, to=[wes], past=[uma, vic])
        ears.speaks(wes, to=[sam], past=[uma, vic])
        moved = lambda: [params["QueuePosition"] for params in self.app.to("/play/wait", CallSid=uma.sid)][-1]
        wait_for(lambda: moved() == "1", 3, f"the second to be told that it is the first: {moved()}")
        equal(self.waiting("served"), [uma.sid, vic.sid], "who waits still")

        xen = self.take("xen", "served")
        wait_for(lambda: self.waiting("served") == [vic.sid], 3, "the second to be taken")
        ears.silence(uma)
        ears.speaks(uma, to=[xen], past=[sam, wes, vic])
        ears.speaks(xen, to=[uma], past=[sam, wes, vic])
        since = time.monotonic()
        wes.hang_up()
        ears.hears(sam, NOISES["after"], since, "what its own document plays when the taker is gone")
        self.result(sam, "bridged", 1, 8)
        taken = self.app.wait("/taken", CallSid=wes.sid)
        equal((taken["DialCallStatus"], taken["DialBridged"], taken["DialCallSid"]), ("completed", "true", sam.sid), "the action of Dial")
        self.scenario.check(2 <= int(taken["DialCallDuration"]) <= 8, f"DialCallDuration {taken['DialCallDuration']}")
        since = time.monotonic()
        uma.hang_up()
        self.result(uma, "bridged", 2, 12)
        ears.hears(xen, NOISES["after"], since, "what its own document plays when the member is gone")
        self.app.wait("/taken", CallSid=xen.sid, DialCallStatus="completed", DialCallSid=uma.sid)

        since = time.monotonic()
        equal(queue.members("Front").update(url=f"{self.app.url}/elsewhere").call_sid, vic.sid, "a member that is taken out by REST")
        self.app.wait("/elsewhere", CallSid=vic.sid)
        self.result(vic, "redirected")
        ears.hears(vic, NOISES["after"], since, "its new document")
        equal(self.waiting("served"), [], "who waits at last")

    def left(self):
        """By <Leave> and by hanging up; how long it waited is told."""
        since = time.monotonic()
        yan = self.enqueue("yan", "left", 1, wait_url="/leaving")
        zoe = self.enqueue("zoe", "left")
        self.ears.hears(yan, NOISES["wait"], since, "the music before it leaves")
        self.result(yan, "leave")
        self.ears.hears(yan, NOISES["after"], since, "what its own document plays afterwards")
        time.sleep(max(0, 2.5 - (time.monotonic() - since)))
        zoe.hang_up()
        # The music before it leaves is a second long, and the other waited two.
        self.result(yan, "leave", 1, 2)
        self.result(zoe, "hangup", 2, 3)
        una = self.telephones.call("una", enqueue("left", wait_url="/hanging"))
        una.wait_bye()
        self.result(una, "hangup", 1, 2)
        wait_for(lambda: self.waiting("left") == [], 2, "nobody to wait")

    def full(self):
        """As many as the document says, or as the REST program says."""
        one = self.enqueue("one", "small", max_queue_size=1)
        two = self.telephones.call("two", enqueue("small", max_queue_size=1))
        self.result(two, "queue-full", 0, 0)
        self.scenario.equal(self.waiting("small"), [one.sid], "who waits in the small queue")
        queue = self.client.queues.create(friendly_name="limited", max_size=1)
        three = self.enqueue("three", "limited", max_queue_size=9)
        four = self.telephones.call("four", enqueue("limited", max_queue_size=9))
        self.scenario.equal(self.result(four, "queue-full", 0, 0)["QueueSid"], queue.sid, "the queue that is full")
        self.scenario.equal(self.client.queues(queue.sid).update(max_size=2).max_size, 2, "a larger queue")
        five = self.enqueue("five", "limited")
        self.scenario.equal(self.waiting("limited"), [three.sid, five.sid], "who waits in the limited queue")
        for telephone in (one, three, five):
            telephone.hang_up()

    def patient(self):
        """A taker waits for the next who comes, which is taken away from it again; another gives up after its time."""
        first = time.monotonic()
        nobody = self.take("nobody", "empty", timeout=5)
        taker = self.take("taker", "later")
        time.sleep(0.5)
        comer = self.telephones.call("comer", enqueue("later"))
        wait_for(lambda: self.ears.loudness(comer) < 20, 2, "the comer's music to end")
        time.sleep(0.2)
        self.ears.speaks(comer, to=[taker], past=[nobody])
        self.ears.speaks(taker, to=[comer], past=[nobody])
        since = time.monotonic()
        self.client.calls(comer.sid).update(url=f"{self.app.url}/elsewhere")
        self.ears.hears(comer, NOISES["after"], since, "its new document")
        self.result(comer, "redirected-from-bridged", 0, 0)
        self.app.wait("/taken", CallSid=taker.sid, DialCallStatus="completed")
        taken = self.app.wait("/taken", CallSid=nobody.sid, seconds=8)
        lasted = time.monotonic() - first
        self.scenario.equal((taken["DialCallStatus"], taken["DialBridged"]), ("no-answer", "false"), "the action of one who took nobody")
        self.scenario.check(4.9 < lasted < 6.5, f"it gave up after {lasted:.1f} s")
        self.ears.hears(nobody, NOISES["after"], time.monotonic() - 1, "what its own document plays afterwards")

    def asked(self):
        """A key of one who waits reaches the program that plays to it; it waits on."""
        since = time.monotonic()
        abe = self.enqueue("abe", "asked", 1, wait_url="/menu")
        self.ears.hears(abe, NOISES["wait"], since, "the menu")
        since = time.monotonic()
        abe.press("7")
        pressed = self.app.wait("/pressed", CallSid=abe.sid)
        self.scenario.equal((pressed["Digits"], pressed["QueuePosition"], pressed["CurrentQueueSize"]), ("7", "1", "1"), "the action of Gather")
        self.ears.hears(abe, NOISES["pressed"], since, "the answer to the key")
        self.scenario.equal(self.waiting("asked"), [abe.sid], "who waits still")
        abe.hang_up()
        self.result(abe, "hangup")

    def given_up(self):
        """The taker goes while the member hears its whisper: the member waits as before, and is the first."""
        since = time.monotonic()
        ben = self.enqueue("ben", "again", 1, wait_url="/play/wait")
        cat = self.enqueue("cat", "again", 2, wait_url="/play/wait")
        taker = self.take("taker", "again", url="/play/whisper")
        self.app.wait("/play/whisper", CallSid=ben.sid)
        wait_for(lambda: self.waiting("again") == [cat.sid], 1, "the other to wait alone during the whisper")
        before = len(self.app.to("/play/wait", CallSid=ben.sid))
        taker.hang_up()
        wait_for(lambda: len(self.waiting("again")) == 2, 2, "the member to wait again")
        self.scenario.equal(self.waiting("again"), [ben.sid, cat.sid], "who waits, in order")
        self.scenario.equal(self.resource("again").members("Front").fetch().call_sid, ben.sid, "the first")
        wait_for(lambda: len(self.app.to("/play/wait", CallSid=ben.sid)) > before, 3, "its music to be asked for again")
        again = self.app.to("/play/wait", CallSid=ben.sid)[before]
        self.scenario.equal(again["QueuePosition"], "1", "its place")
        self.ears.hears(ben, NOISES["wait"], time.monotonic() - 0.5, "the music of the customer's, again")
        time.sleep(1)
        self.ears.lacks(ben, NOISES["whisper"], time.monotonic() - 0.7, "a whisper of nobody's")
        self.app.wait("/taken", CallSid=taker.sid, DialBridged="false")
        another = self.take("another", "again")
        wait_for(lambda: self.waiting("again") == [cat.sid], 2, "the first to be taken")
        self.ears.silence(ben)
        self.ears.speaks(ben, to=[another], past=[cat])
        for telephone, result in ((ben, "bridged"), (cat, "hangup")):
            telephone.hang_up()
            self.result(telephone, result, 1, time.monotonic() - since)

    def gone_meanwhile(self):
        """The member goes while it hears its whisper: the next is taken, and hears the whisper too."""
        ida, ivo = self.enqueue("ida", "meanwhile"), self.enqueue("ivo", "meanwhile")
        taker = self.take("taker", "meanwhile", url="/play/whisper")
        self.app.wait("/play/whisper", CallSid=ida.sid)
        ida.hang_up()
        self.app.wait("/play/whisper", CallSid=ivo.sid, seconds=2)
        self.ears.silence(ivo)
        self.ears.speaks(ivo, to=[taker])

    def managed(self):
        """Made, listed, fetched, changed and deleted by REST, with those who wait; nothing of it is there for another account."""
        equal, client, other = self.scenario.equal, self.client, self.rooms.other
        made = client.queues.create(friendly_name="managed")
        equal((made.friendly_name, made.max_size, made.current_size, made.average_wait_time), ("managed", 1000, 0, 0), "what create gives")
        self.refused({22003}, lambda: client.queues.create(friendly_name="managed"), "another queue of the same name")
        for size in (0, 5001):
            self.refused({20001}, lambda: client.queues.create(friendly_name="wrong", max_size=size), f"a size of {size}")
        self.refused({20001}, lambda: client.queues.create(friendly_name="n" * 65), "a name of 65 letters")
        queue = client.queues(made.sid)
        self.refused({20404}, lambda: queue.members("Front").fetch(), "the first of nobody")
        since = time.monotonic()
        dan, eva = self.enqueue("dan", "managed"), self.enqueue("eva", "managed")
        time.sleep(max(0, 2.2 - (time.monotonic() - since)))
        one = queue.fetch()
        equal((one.sid, one.current_size), (made.sid, 2), "with two who wait")
        self.scenario.check(1 <= one.average_wait_time <= 4, f"average_wait_time {one.average_wait_time}")
        listed = queue.members.list()
        equal([(one.call_sid, one.position, one.queue_sid) for one in listed], [(dan.sid, 1, made.sid), (eva.sid, 2, made.sid)], "members")
        self.scenario.check(1 <= listed[0].wait_time <= 4 and listed[0].date_enqueued <= listed[1].date_enqueued, f"how long they wait: {listed[0].wait_time}")
        equal([one.call_sid for one in queue.members.list(page_size=1)], [dan.sid, eva.sid], "in pages of 1")
        equal((queue.members("Front").fetch().call_sid, queue.members(eva.sid).fetch().position), (dan.sid, 2), "the first, and the second")
        equal((queue.update(friendly_name="renamed", max_size=5).friendly_name, queue.fetch().max_size), ("renamed", 5), "another name and size")
        equal([one.call_sid for one in queue.members.list()], [dan.sid, eva.sid], "who waits in a queue that has another name")
        queue.update(friendly_name="managed")

        mine = (dan.sid, eva.sid)
        for what, ask in (
            ("fetch", other.queues(made.sid).fetch),
            ("update", lambda: other.queues(made.sid).update(max_size=7)),
            ("delete", other.queues(made.sid).delete),
            ("members", other.queues(made.sid).members.list),
            ("the first", other.queues(made.sid).members("Front").fetch),
            ("taking one out", lambda: other.queues(made.sid).members(mine[1]).update(url=f"{self.app.url}/elsewhere")),
        ):
            self.refused({20404}, ask, f"{what} by another account")
        equal(other.queues.list(), [], "queues of the other account")
        self.refused({20404}, lambda: queue.members("CA" + "0" * 32).fetch(), "a member that is not there")
        self.refused({21205}, lambda: queue.members("Front").update(url="nowhere"), "a document that is nowhere")

        since = time.monotonic()
        equal(queue.members(eva.sid).update(url=f"{self.app.url}/elsewhere?by=get", method="GET").call_sid, eva.sid, "the second, out of turn")
        self.app.wait("/elsewhere", CallSid=eva.sid, by="get")
        self.result(eva, "redirected", 1, 6)
        self.ears.hears(eva, NOISES["after"], since, "its new document")
        self.refused({20404}, lambda: queue.members(eva.sid).fetch(), "a member that is out")
        equal((queue.fetch().current_size, queue.members("Front").fetch().call_sid), (1, dan.sid), "who waits still")
        self.refused({20001, 20004, 22004}, queue.delete, "the end of a queue in which somebody waits")
        dan.hang_up()
        self.result(dan, "hangup", 2, 8)
        wait_for(lambda: queue.fetch().current_size == 0, 2, "nobody to wait")
        self.scenario.check(queue.delete(), "delete")
        self.refused({20404}, queue.fetch, "fetching a queue that is deleted")
        self.refused({20404}, queue.members.list, "members of a queue that is deleted")

    # After all.

    def emptied(self):
        """Each queue that a document named is there, once, and nobody is in it."""
        found = self.client.queues.list()
        names = sorted(one.friendly_name for one in found)
        self.scenario.equal(names, ["again", "asked", "later", "left", "limited", "meanwhile", "served", "small"], "queues that somebody waited in")
        self.scenario.equal({one.current_size for one in found}, {0}, "sizes")
        self.scenario.equal(len(self.client.queues.list(page_size=2)), len(found), "in pages of 2")
        for params in self.app.to("/dequeued"):
            self.scenario.check(len(self.app.to("/dequeued", CallSid=params["CallSid"])) == 1, f"{params['CallSid']} is told twice that it is out")
        return f"{len(found)} queues"
