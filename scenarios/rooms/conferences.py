"""Conferences: who hears whom, what the REST program sees and changes of them, and what the application is told."""

import datetime
import email.utils
import time

from twilio.base.exceptions import TwilioException, TwilioRestException

from application import EVENTS, NOISES, join
from lib.scenario import wait_for
from telephones import Words

STEP = {"ConferenceSid", "FriendlyName", "AccountSid", "Timestamp", "StatusCallbackEvent", "SequenceNumber"}
MEMBER = STEP | {"CallSid", "Muted", "Hold", "Coaching", "EndConferenceOnExit", "StartConferenceOnEnter"}
PARAMETERS = {
    "conference-start": STEP,
    "conference-end": STEP | {"CallSidEndingConference", "ReasonConferenceEnded", "Reason"},
    "participant-join": MEMBER,
    "participant-leave": MEMBER | {"ReasonParticipantLeft", "ParticipantCallStatus"},
    "participant-mute": MEMBER,
    "participant-unmute": MEMBER,
    "participant-hold": MEMBER,
    "participant-unhold": MEMBER,
    "participant-modify": MEMBER,
    "participant-speech-start": MEMBER,
    "participant-speech-stop": MEMBER,
    "announcement-end": STEP,
    "announcement-fail": STEP,
}
RECORDED = {
    "AccountSid", "CallSid", "ConferenceSid", "RecordingSid", "RecordingUrl", "RecordingStatus", "RecordingDuration", "RecordingChannels", "RecordingStartTime",
    "RecordingSource", "RecordingTrack", "ErrorCode",
}
# Only of some members, or some steps.
SOMETIMES = {"CallSidToCoach", "ParticipantLabel", "CallSid", "Reason", "ReasonAnnouncementFailed"} | MEMBER


def seen(member):
    """A member as REST shows it."""
    return (
        member.muted, member.hold, member.coaching, member.call_sid_to_coach or "", member.label or "", member.end_conference_on_exit,
        member.start_conference_on_enter,
    )


def told(params):
    """The same of a callback."""
    flag = lambda name: params[name] == "true"
    return (
        flag("Muted"), flag("Hold"), flag("Coaching"), params.get("CallSidToCoach", ""), params.get("ParticipantLabel", ""), flag("EndConferenceOnExit"),
        flag("StartConferenceOnEnter"),
    )


class Conferences:
    """Each part has a conference of its own, by its own name."""

    def __init__(self, rooms):
        self.rooms, self.scenario, self.ears = rooms, rooms.scenario, rooms.ears
        self.app, self.client, self.telephones = rooms.app, rooms.client, rooms.telephones

    def join(self, name, conference, **attributes):
        """Calls and is a member; the conference's sid is known then."""
        telephone = self.telephones.call(name, join(conference, **attributes))
        self.app.wait("/told", StatusCallbackEvent="participant-join", CallSid=telephone.sid)
        return telephone

    def begun(self, name):
        """The resource of the one of that name, which has begun and is not over."""
        sid = self.app.wait("/told", StatusCallbackEvent="conference-start", FriendlyName=name)["ConferenceSid"]
        conference = self.client.conferences(sid).fetch()
        self.scenario.equal((conference.fetch().status, conference.fetch().friendly_name), ("in-progress", name), "a conference that has begun")
        self.agree(conference)
        return conference

    def agree(self, conference):
        """The members that REST lists are those that the callbacks tell of, in every detail: at once, or when a callback on its way is there."""
        def fold():
            members, status = {}, "init"
            for params in self.app.to("/told", ConferenceSid=conference.sid):
                if params["StatusCallbackEvent"] == "participant-leave":
                    members.pop(params["CallSid"])
                elif "CallSid" in params and params["StatusCallbackEvent"].startswith("participant"):
                    members[params["CallSid"]] = told(params)
                status = {"conference-start": "in-progress", "conference-end": "completed"}.get(params["StatusCallbackEvent"], status)
            return members, status

        listed = lambda: ({one.call_sid: seen(one) for one in conference.participants.list()}, conference.fetch().status)
        try:
            wait_for(lambda: fold() == listed(), 2, "REST and callbacks to agree", every=0.03)
        except Exception:
            self.scenario.equal(listed(), fold(), f"{conference.fetch().friendly_name} as REST has it, and as callbacks tell it")
        self.scenario.check(True, "they agree")

    def change(self, conference, name, event, **change):
        """Changes a member, of that sid or label: it is so in the answer, is told, and stands so in REST."""
        before = len(self.app.to("/told", ConferenceSid=conference.sid, StatusCallbackEvent=event))
        answered = conference.participants(name).update(**change)
        for key, value in change.items():
            if hasattr(answered, key):
                self.scenario.equal(getattr(answered, key), value, f"{key} in the answer")
        wait_for(lambda: len(self.app.to("/told", ConferenceSid=conference.sid, StatusCallbackEvent=event)) == before + 1, 3, f"{event} of {name}")
        step = self.app.to("/told", ConferenceSid=conference.sid, StatusCallbackEvent=event)[-1]
        self.scenario.equal((step["CallSid"], told(step)), (answered.call_sid, seen(answered)), f"{event} and the answer")
        self.scenario.equal(seen(conference.participants(name).fetch()), seen(answered), f"{name} after {event}")
        self.agree(conference)

    def only(self, conference, wanted, **filters):
        """A filter finds these."""
        found = sorted(one.call_sid for one in conference.participants.list(**filters))
        self.scenario.equal(found, sorted(one.sid for one in wanted), f"members with {filters}")

    def refused(self, codes, ask, what):
        """An error of one of these numbers, which the SDK has in the error or, of lists, in its text."""
        try:
            ask()
        except TwilioRestException as error:
            return self.scenario.check(error.code in codes, f"{what}: {error.code} {error.msg}, and not one of {codes}")
        except TwilioException as error:
            return self.scenario.check(any(f'"code":{code}' in str(error) for code in codes), f"{what}: {error}")
        self.scenario.check(False, f"{what} is not refused")

    # The parts.

    def voices(self):
        """Music until it begins; three who hear each other and not themselves, one by one and all at once; beeps; muted by attribute and by REST."""
        ears, equal = self.ears, self.scenario.equal
        began = time.monotonic()
        record = {"recording_status_callback": "/recording", "recording_status_callback_event": "in-progress completed"}
        anna = self.join("anna", "voices", record="record-from-start", trim="do-not-trim", **record)
        ears.hears(anna, self.rooms.music, began, "the music of one who is alone")
        early = self.client.conferences.list(friendly_name="voices", status="init")
        equal([(one.friendly_name, one.status) for one in early], [("voices", "init")], "a conference with one member")
        self.agree(early[0])
        bert = self.join("bert", "voices", participant_label="bert")
        conference = self.begun("voices")
        equal(conference.sid, early[0].sid, "its sid")
        ears.silence(anna)
        entered = time.monotonic()
        carl = self.join("carl", "voices", participant_label="carl", muted=True)
        ears.beep(entered, anna, bert)
        self.agree(conference)
        for name, telephone in ((anna.sid, anna), ("bert", bert), (carl.sid, carl), ("carl", carl)):
            equal(conference.participants(name).fetch().call_sid, telephone.sid, "a member by its sid or label")

        ears.speaks(anna, to=[bert, carl])
        ears.speaks(bert, to=[anna, carl])
        ears.speaks(carl, past=[anna, bert])
        self.only(conference, [carl], muted=True)
        self.change(conference, "carl", "participant-unmute", muted=False)
        ears.speaks(carl, to=[anna, bert])
        self.change(conference, anna.sid, "participant-mute", muted=True)
        self.only(conference, [anna], muted=True)
        self.only(conference, [bert, carl], muted=False)
        ears.speaks(anna, past=[bert, carl])
        ears.speaks(bert, to=[anna, carl])
        self.change(conference, anna.sid, "participant-unmute", muted=False)
        ears.all_speak(anna, bert, carl)
        left = time.monotonic()
        bert.hang_up()
        ears.beep(left, anna, carl)
        self.agree(conference)
        anna.hang_up()
        carl.hang_up()
        self.ended(conference, "last-participant-left", carl)
        self.whole_recording(conference, anna, bert, carl)

    def ended(self, conference, reason, by):
        """It is over: fetched so, told so, without members, and cannot be changed."""
        last = self.app.wait("/told", StatusCallbackEvent="conference-end", ConferenceSid=conference.sid)
        self.scenario.equal((last["ReasonConferenceEnded"], last["CallSidEndingConference"]), (reason, by.sid), "why it ended, as told")
        one = conference.fetch()
        self.scenario.equal((one.status, one.reason_conference_ended, one.call_sid_ending_conference), ("completed", reason, by.sid), "why it ended")
        self.agree(conference)
        for what, ask in (
            ("status", lambda: conference.update(status="completed")),
            ("announcement", lambda: conference.update(announce_url=f"{self.app.url}/play/news")),
            ("a member", lambda: conference.participants(by.sid).update(muted=True)),
            ("removal", lambda: conference.participants(by.sid).delete()),
            ("fetching a member", lambda: conference.participants(by.sid).fetch()),
        ):
            self.refused({20001, 20404, 21220}, ask, f"{what} of one that is over")

    def whole_recording(self, conference, *speakers):
        """From its beginning to its end: one channel with what everybody said who was heard, and nothing else."""
        equal = self.scenario.equal
        done = self.app.wait("/recording", ConferenceSid=conference.sid, RecordingStatus="completed")
        listed = conference.recordings.list()
        equal([one.sid for one in listed], [done["RecordingSid"]], "recordings of the conference")
        one = listed[0]
        equal((one.source, one.status, one.conference_sid), ("Conference", "completed", conference.sid), "the recording")
        equal((one.channels, done["RecordingChannels"]), (1, "1"), "its channels")
        equal(len(self.app.to("/recording", ConferenceSid=conference.sid, RecordingStatus="in-progress")), 1, "told that it began")
        audio = self.rooms.download(done["RecordingUrl"])
        lasted = self.lasted(conference)
        self.scenario.check(abs(len(audio) / 8000 - lasted) < 0.7, f"{len(audio) / 8000:.2f} s are recorded of {lasted:.2f} s")
        for speaker in speakers:
            for words in speaker.words:
                if words.is_heard is not None:
                    self.rooms.recorded(audio, words, words.is_heard, f"what {speaker.name} said")
        self.rooms.recorded(audio, Words(), False, "what nobody said")

    def lasted(self, conference):
        """Seconds from the start to the end, as the application was told."""
        mine = [one for one in self.app.requests if one["path"] == "/told" and one["params"]["ConferenceSid"] == conference.sid]
        at = {one["params"]["StatusCallbackEvent"]: one["at"] for one in mine}
        return at["conference-end"] - at["conference-start"]

    def held(self):
        """One who is held hears music, ours or the customer's; neither hears nor is heard; and is back."""
        ears, equal = self.ears, self.scenario.equal
        dora, emil = self.join("dora", "held", participant_label="dora"), self.join("emil", "held", participant_label="emil")
        conference = self.begun("held")
        fred = self.join("fred", "held", participant_label="fred", beep=False)
        since = time.monotonic()
        self.change(conference, "emil", "participant-hold", hold=True)
        self.only(conference, [emil], hold=True)
        self.only(conference, [dora, fred], hold=False)
        ears.hears(emil, self.rooms.music, since, "the music of one who is held")
        ears.speaks(emil, past=[dora, fred])
        ears.speaks(dora, to=[fred], past=[emil])
        self.change(conference, "emil", "participant-unhold", hold=False)
        ears.silence(emil)
        ears.speaks(dora, to=[emil, fred])
        ears.speaks(emil, to=[dora, fred])

        since = time.monotonic()
        self.change(conference, fred.sid, "participant-hold", hold=True, hold_url=f"{self.app.url}/play/hold?of=fred", hold_method="GET")
        ears.hears(fred, NOISES["hold"], since, "the music of the customer's")
        asked = [one for one in self.app.requests if one["path"] == "/play/hold" and one["params"].get("of") == "fred"]
        equal((asked[0]["method"], asked[0]["params"]["ConferenceSid"]), ("GET", conference.sid), "the request for the music")
        ears.speaks(fred, past=[dora, emil])
        ears.speaks(dora, to=[emil], past=[fred])
        since = time.monotonic()
        conference.participants(fred.sid).update(hold=True, hold_url=f"{self.app.url}/play/word")
        ears.hears(fred, NOISES["word"], since, "other music for one who is held")
        self.change(conference, fred.sid, "participant-unhold", hold=False)
        ears.silence(fred)
        ears.speaks(fred, to=[dora, emil])
        self.speech(conference, dora, emil, fred)
        conference.update(status="completed")
        for telephone in (dora, emil, fred):
            self.app.wait("/after", CallSid=telephone.sid)
        self.ended(conference, "conference-ended-via-api", dora)
        for telephone in (dora, emil, fred):
            ears.hears(telephone, NOISES["after"], time.monotonic() - 1.5, "what its own document plays afterwards")

    def speech(self, conference, *speakers):
        """Each who spoke began and stopped, in turn; as often as there were words, or fewer where the pause was short."""
        for speaker in speakers:
            mine = lambda: [one["StatusCallbackEvent"] for one in self.app.to("/told", ConferenceSid=conference.sid, CallSid=speaker.sid)]
            steps = lambda: [step for step in mine() if "speech" in step]
            wait_for(lambda: steps()[-1:] == ["participant-speech-stop"], 3, f"{speaker.name} to stop: {steps()}")
            got = steps()
            turns = ["participant-speech-start", "participant-speech-stop"] * (len(got) // 2)
            self.scenario.check(got == turns and 1 <= len(got) // 2 <= len(speaker.words), f"speech of {speaker.name}: {got} for {len(speaker.words)} times")

    def coached(self):
        """A coach is heard by its pupil only, and hears all: by attribute and by REST."""
        ears, equal = self.ears, self.scenario.equal
        gina, hugo = self.join("gina", "coached", participant_label="gina"), self.join("hugo", "coached", participant_label="hugo")
        conference = self.begun("coached")
        ida = self.join("ida", "coached", participant_label="ida", coach=gina.sid, beep=False)
        self.agree(conference)
        one = conference.participants("ida").fetch()
        equal((one.coaching, one.call_sid_to_coach, one.conference_sid), (True, gina.sid, conference.sid), "the coach")
        self.only(conference, [ida], coaching=True)
        ears.speaks(ida, to=[gina], past=[hugo])
        ears.speaks(hugo, to=[gina, ida])
        ears.speaks(gina, to=[hugo, ida])
        self.change(conference, "ida", "participant-modify", coaching=False)
        self.only(conference, [], coaching=True)
        ears.speaks(ida, to=[gina, hugo])
        self.change(conference, "ida", "participant-modify", coaching=True, call_sid_to_coach=hugo.sid)
        ears.speaks(ida, to=[hugo], past=[gina])
        self.refused({20001}, lambda: conference.participants("ida").update(call_sid_to_coach="nobody"), "a pupil that is no sid")
        self.refused({20404}, lambda: conference.participants("nobody").update(muted=True), "a member that is not there")
        for telephone in (ida, hugo, gina):
            telephone.hang_up()
        self.ended(conference, "last-participant-left", gina)

    def announced(self):
        """Announcements to all and to one, and one that fails; out by REST; a leaving that ends it."""
        ears, equal = self.ears, self.scenario.equal
        url = self.app.url
        jim = self.join("jim", "announced", participant_label="jim", beep=False)
        kay = self.join("kay", "announced", participant_label="kay", beep=False)
        conference = self.begun("announced")
        entered = time.monotonic()
        leo = self.join("leo", "announced", participant_label="leo", beep="onExit")
        time.sleep(0.4)
        ears.no_beep(entered, jim, kay)

        since = time.monotonic()
        conference.update(announce_url=f"{url}/play/news")
        for telephone in (jim, kay, leo):
            ears.hears(telephone, NOISES["news"], since, "what is announced to all")
        self.app.wait("/told", ConferenceSid=conference.sid, StatusCallbackEvent="announcement-end")
        since = time.monotonic()
        conference.participants("kay").update(announce_url=f"{url}/play/word")
        ears.hears(kay, NOISES["word"], since, "what is announced to it alone")
        for telephone in (jim, leo):
            ears.lacks(telephone, NOISES["word"], since, "what is announced to another")
        wait_for(lambda: len(self.app.to("/told", ConferenceSid=conference.sid, StatusCallbackEvent="announcement-end")) == 2, 3, "its end")
        ears.speaks(jim, to=[kay, leo])
        ears.speaks(kay, to=[jim, leo])
        conference.update(announce_url=f"{url}/broken")
        self.app.wait("/told", ConferenceSid=conference.sid, StatusCallbackEvent="announcement-fail")

        since = time.monotonic()
        self.scenario.check(conference.participants("leo").delete(), "removal")
        ears.beep(since, jim, kay)
        ears.hears(leo, NOISES["after"], since, "what its own document plays afterwards")
        after = self.app.wait("/after", CallSid=leo.sid)
        equal(after["DialCallStatus"], "answered", "the action of one that was removed")
        self.scenario.check("DialCallDuration" not in after, "DialCallDuration of a conference")
        left = self.app.wait("/told", StatusCallbackEvent="participant-leave", CallSid=leo.sid)
        equal((left["ReasonParticipantLeft"], left["ParticipantCallStatus"]), ("participant_kicked", "in-progress"), "why it left")
        self.refused({20404}, lambda: conference.participants("leo").fetch(), "fetching one that was removed")
        self.agree(conference)
        ears.speaks(jim, to=[kay], past=[leo])
        self.change(conference, "jim", "participant-modify", end_conference_on_exit=True)
        left = time.monotonic()
        jim.hang_up()
        ears.hears(kay, NOISES["after"], left, "what its own document plays afterwards")
        self.app.wait("/after", CallSid=kay.sid, DialCallStatus="answered")
        self.ended(conference, "participant-with-end-conference-on-exit-left", jim)
        left = self.app.wait("/told", StatusCallbackEvent="participant-leave", CallSid=jim.sid)
        equal((left["ReasonParticipantLeft"], left["ParticipantCallStatus"]), ("participant_hung_up", "completed"), "why one left that hung up")

    def begins_and_ends(self):
        """Guests wait with the customer's music and do not hear each other until the host is there; one too many is refused; the host's leaving ends it."""
        ears, equal = self.ears, self.scenario.equal
        waiting = {"start_conference_on_enter": False, "wait_url": "/play/wait?in=hosted", "wait_method": "GET", "max_participants": 3}
        since = time.monotonic()
        mia, nina = self.join("mia", "hosted", **waiting), self.join("nina", "hosted", **waiting)
        for guest in (mia, nina):
            ears.hears(guest, NOISES["wait"], since, "the music until it begins")
        ears.speaks(mia, past=[nina])
        conference = self.client.conferences.list(friendly_name="hosted")[0]
        equal(conference.fetch().status, "init", "before the host")
        self.agree(conference)
        otto = self.join("otto", "hosted", end_conference_on_exit=True)
        equal(self.begun("hosted").sid, conference.sid, "its sid")
        for guest in (mia, nina):
            ears.silence(guest)
        ears.speaks(otto, to=[mia, nina])
        ears.speaks(mia, to=[otto, nina])

        since = time.monotonic()
        pia = self.telephones.call("pia", join("hosted", max_participants=3))
        after = self.app.wait("/after", CallSid=pia.sid)
        self.scenario.check(after["DialCallStatus"] != "answered", f"one too many: {after['DialCallStatus']}")
        ears.hears(pia, NOISES["after"], since, "what its own document plays afterwards")
        self.agree(conference)
        since = time.monotonic()
        otto.hang_up()
        for guest in (mia, nina):
            ears.hears(guest, NOISES["after"], since, "what its own document plays afterwards")
            self.app.wait("/after", CallSid=guest.sid, DialCallStatus="answered")
        self.ended(conference, "participant-with-end-conference-on-exit-left", otto)
        create = lambda: conference.participants.create(to="client:nobody", from_=self.rooms.number)
        self.refused({20001, 20404, 21220}, create, "a member for one that is over")

    def created(self):
        """Members who are called, by the name of a conference that is not there yet and by its sid; recorded, with pauses, until that is stopped."""
        ears, equal, url = self.ears, self.scenario.equal, self.app.url
        both = {"from_": self.rooms.number, "beep": "false", "conference_status_callback": f"{url}/told", "conference_status_callback_event": EVENTS.split()}
        record = {
            "conference_record": "record-from-start", "conference_trim": "do-not-trim", "conference_recording_status_callback": f"{url}/recording",
            "conference_recording_status_callback_event": ["in-progress", "completed"],
        }
        made = self.client.conferences("created").participants.create(to="client:quin", label="quin", muted=True, **both, **record)
        equal((made.status, made.label, made.muted), ("queued", "quin", True), "what create gives")
        since = time.monotonic()
        quin = self.telephones.answer("quin", self.rooms.users["quin"], made.call_sid)
        joined = self.app.wait("/told", StatusCallbackEvent="participant-join", CallSid=made.call_sid)
        conference = self.client.conferences(joined["ConferenceSid"]).fetch()
        equal((joined["FriendlyName"], conference.fetch().status), ("created", "init"), "the conference that begins to be")
        ears.hears(quin, self.rooms.music, since, "the music until it begins")
        status = {"status_callback": f"{url}/status", "status_callback_event": ["answered", "completed"]}
        made = conference.participants.create(to="client:rosa", label="rosa", **status, **both)
        equal((made.status, made.conference_sid), ("queued", conference.sid), "what create gives, by the sid")
        rosa = self.telephones.answer("rosa", self.rooms.users["rosa"], made.call_sid)
        equal(self.begun("created").sid, conference.sid, "the conference of both")
        equal({one.label: one.status for one in conference.participants.list()}, {"quin": "connected", "rosa": "connected"}, "members")
        self.change(conference, "quin", "participant-unmute", muted=False)

        recording = self.recorded_in_parts(conference, quin, rosa)
        conference.update(status="completed")
        for telephone in (quin, rosa):
            telephone.wait_bye()
        self.ended(conference, "conference-ended-via-api", quin)
        self.app.wait("/status", CallSid=rosa.sid, CallStatus="completed")
        self.scenario.check(recording.fetch().date_created >= conference.date_created, "a recording older than its conference")
        self.others(conference, quin, recording)

    def recorded_in_parts(self, conference, quin, rosa):
        """In progress, silent, in progress, left out, in progress, stopped."""
        ears, equal = self.ears, self.scenario.equal
        sid = self.app.wait("/recording", ConferenceSid=conference.sid, RecordingStatus="in-progress")["RecordingSid"]
        recording = conference.recordings(sid)
        equal([(one.sid, one.status, one.channels) for one in conference.recordings.list()], [(sid, "in-progress", 1)], "a recording in progress")
        kept = [ears.speaks(quin, to=[rosa]), ears.speaks(rosa, to=[quin])]
        equal(recording.update(status="paused", pause_behavior="silence").status, "paused", "a pause")
        wait_for(lambda: recording.fetch().status == "paused", 2, "the recording to be paused")
        lost = [ears.speaks(quin, to=[rosa])]
        equal(recording.update(status="in-progress").status, "in-progress", "going on")
        kept.append(ears.speaks(rosa, to=[quin]))
        equal(conference.recordings("Twilio.CURRENT").update(status="paused", pause_behavior="skip").status, "paused", "a pause of the current")
        lost.append(ears.speaks(rosa, to=[quin]))
        recording.update(status="in-progress")
        kept.append(ears.speaks(quin, to=[rosa]))
        equal(recording.update(status="stopped").status, "stopped", "its end")
        done = self.app.wait("/recording", ConferenceSid=conference.sid, RecordingStatus="completed")
        lost.append(ears.speaks(rosa, to=[quin]))
        self.refused({21220}, lambda: recording.update(status="paused"), "a pause of a recording that is over")
        equal((done["RecordingSid"], recording.fetch().status, recording.fetch().source), (sid, "completed", "Conference"), "the recording")
        equal(set(done), RECORDED, "parameters of the callback")
        audio = self.rooms.download(done["RecordingUrl"])
        for words, is_kept in [*((words, True) for words in kept), *((words, False) for words in lost)]:
            self.rooms.recorded(audio, words, is_kept, "what was said while it was in progress" if is_kept else "what was said in a pause, or afterwards")
        return recording

    def others(self, conference, member, recording):
        """Nothing of it is there for another account."""
        other = self.rooms.other.conferences(conference.sid)
        self.scenario.equal(self.rooms.other.conferences.list(), [], "conferences of the other account")
        for what, ask in (
            ("fetch", other.fetch),
            ("update", lambda: other.update(status="completed")),
            ("members", other.participants.list),
            ("a member", lambda: other.participants(member.sid).fetch()),
            ("a change of a member", lambda: other.participants(member.sid).update(muted=True)),
            ("removal of a member", lambda: other.participants(member.sid).delete()),
            ("a member that is called", lambda: other.participants.create(to="client:quin", from_=self.rooms.number)),
            ("recordings", other.recordings.list),
            ("a recording", lambda: other.recordings(recording.fetch().sid).fetch()),
            ("the end of a recording", lambda: other.recordings(recording.fetch().sid).update(status="stopped")),
        ):
            self.refused({20404}, ask, f"{what} by another account")

    # After all.

    def listed(self):
        """By name, status and day; in pages."""
        equal, client = self.scenario.equal, self.client
        every = {params["ConferenceSid"]: params["FriendlyName"] for params in self.app.to("/told")}
        names = ["announced", "coached", "created", "held", "hosted", "voices"]
        equal(sorted(every.values()), names, "conferences, one of each name")
        found = client.conferences.list()
        equal({one.sid: one.friendly_name for one in found}, every, "conferences of the account")
        equal([one.date_created for one in found], sorted((one.date_created for one in found), reverse=True), "the newest first")
        equal([one.sid for one in client.conferences.list(page_size=2)], [one.sid for one in found], "in pages of 2")
        equal(len(client.conferences.list(limit=4)), 4, "a limit")
        for name in names:
            equal([every[one.sid] for one in client.conferences.list(friendly_name=name)], [name], f"conferences of the name {name}")
        equal(client.conferences.list(friendly_name="voice"), [], "conferences of a part of a name")
        equal(len(client.conferences.list(status="completed", friendly_name="held")), 1, "those that are over, by name")
        for status, count in (("init", 0), ("in-progress", 0), ("completed", len(names))):
            equal(len(client.conferences.list(status=status)), count, f"conferences that are {status}")
        day, one_day = found[0].date_created.date(), datetime.timedelta(days=1)
        if found[-1].date_created.date() == day:
            equal(len(client.conferences.list(date_created=day)), len(names), "conferences of today")
        for none in ({"date_created": day - one_day}, {"date_created_before": found[-1].date_created.date() - one_day}, {"date_created_after": day + one_day}):
            equal(client.conferences.list(**none), [], f"conferences with {none}")
        return f"{len(found)} conferences"

    def told_all(self):
        """Every conference told all its steps, in order, from 1 without a gap, each with its documented parameters and no others."""
        equal, check = self.scenario.equal, self.scenario.check
        steps = self.app.to("/told")
        for sid in {params["ConferenceSid"] for params in steps}:
            mine = [params for params in steps if params["ConferenceSid"] == sid]
            name = mine[0]["FriendlyName"]
            equal([int(params["SequenceNumber"]) for params in mine], list(range(1, len(mine) + 1)), f"steps of {name}, in the order in which they came")
            events = [params["StatusCallbackEvent"] for params in mine]
            equal((events[0], events[-1]), ("participant-join", "conference-end"), f"the first and the last step of {name}")
            equal((events.count("conference-start"), events.count("conference-end")), (1, 1), f"beginnings and ends of {name}")
            times = [email.utils.parsedate_to_datetime(params["Timestamp"]) for params in mine]
            check(times == sorted(times), f"times of {name}")
            for event in ("mute", "hold"):
                turns = {}
                for params in mine:
                    if params["StatusCallbackEvent"] in (f"participant-{event}", f"participant-un{event}"):
                        turns.setdefault(params["CallSid"], []).append(params["StatusCallbackEvent"])
                for turn in turns.values():
                    check(all(first != second for first, second in zip(turn, turn[1:])), f"{event} of {name}: {turn}")
        labelled = {params["CallSid"] for params in steps if params.get("ParticipantLabel")}
        for params in steps:
            event = params["StatusCallbackEvent"]
            missing, more = PARAMETERS[event] - set(params), set(params) - PARAMETERS[event] - SOMETIMES
            check(not missing and not more, f"{event} of {params['FriendlyName']} lacks {missing}, and has {more}")
            check("Muted" not in params or ("ParticipantLabel" in params) == (params["CallSid"] in labelled), f"{event} without the label")
        kinds = {params["StatusCallbackEvent"] for params in steps}
        equal(kinds, set(PARAMETERS), "kinds of steps")
        return f"{len(steps)} steps of {len(kinds)} kinds"
