"""A customer's application: a document for each number and each action, sounds that nobody says, and a list of what it was asked."""

import io
import time
import wave
from urllib.parse import parse_qsl

import numpy
from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import Dial, Gather, Refer, Start, Stop, VoiceResponse

from lib.document import Document
from lib.rtp import noise
from lib.scenario import wait_for

# What is heard at /sound/NAME.
SOUNDS = {name: noise(1.0, seed) for seed, name in enumerate(["menu", "goodbye", "never", "started", "stopped", "wait"], 1)}
SPOKEN = "You have pressed seven. Goodbye."
WRITTEN, ANSWERED = "Your table is ready.", "We have read it."


def wav(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(numpy.asarray(samples).astype("<i2").tobytes())
    return file.getvalue()


def play(response, name, **attributes):
    response.play(f"/sound/{name}.wav", **attributes)
    return response


def hang_up():
    response = VoiceResponse()
    response.hangup()
    return response


# One call: it hears a sound, presses a key, hears speech, waits, hears another sound.


def menu():
    response, gather = VoiceResponse(), Gather(num_digits=1, action="/pressed", timeout=10)
    response.append(play(gather, "menu"))
    return response


def pressed():
    response = VoiceResponse()
    response.say(SPOKEN, voice="woman")
    response.redirect("/paused")
    return response


def paused():
    response = VoiceResponse()
    response.pause(length=1)
    response.redirect("/goodbye")
    return response


def goodbye():
    response = play(VoiceResponse(), "goodbye")
    response.hangup()
    return play(response, "never")


# Calls that are not taken, and one that hears itself.


def busy():
    response = VoiceResponse()
    response.reject(reason="busy")
    return response


def rejected():
    response = VoiceResponse()
    response.reject(reason="rejected")
    return response


def echo():
    response = VoiceResponse()
    response.echo()
    return response


# One call that is recorded twice.


def record():
    response = VoiceResponse()
    response.record(action="/recorded", finish_on_key="#", trim="do-not-trim")
    return response


def recorded():
    response, start, stop = VoiceResponse(), Start(), Stop()
    start.recording(channels="dual", trim="do-not-trim")
    stop.add_child("Recording")
    response.append(start)
    play(response, "started").append(stop)
    return play(response, "stopped")


# Texts.


def sms():
    response = VoiceResponse()
    response.sms(WRITTEN, action="/written")
    return response


def text():
    response = MessagingResponse()
    response.message(ANSWERED)
    return response


# Rooms and queues.


def room(**attributes):
    response, dial = VoiceResponse(), Dial()
    dial.conference("room", beep="false", wait_url="/wait", **attributes)
    response.append(dial)
    return response


def muted():
    return room(muted=True)


def wait():
    return play(VoiceResponse(), "wait", loop=0)


def line(wait_url="/wait"):
    response = VoiceResponse()
    response.enqueue("line", action="/left", wait_url=wait_url)
    return response


def leave():
    return line("/impatient")


def impatient():
    response = play(VoiceResponse(), "wait")
    response.leave()
    return response


def serve():
    response, dial = VoiceResponse(), Dial()
    dial.queue("line")
    response.append(dial)
    return response


_pages = [menu, pressed, paused, goodbye, busy, rejected, echo, record, recorded, sms, text, room, muted, wait, line, leave, impatient, serve]
PAGES = {page.__name__: page for page in _pages}


class Application:
    """A phone that dials calls `callee`, by one noun or another; one that is transferred calls an address of the server `sip`."""

    def __init__(self, port, sip, callee, numbers):
        self.url, self.sip, self.callee, self.numbers = f"http://127.0.0.1:{port}", sip, callee, numbers
        # The sid of the application that a caller dials, and what came, with its time.
        self.dialled, self.asked = None, []
        Document(port, self.answer)

    def dial(self, noun):
        """The number and the application that are dialled are such as dial the callee."""
        response, dial = VoiceResponse(), Dial(action="/dialled")
        if noun == "client":
            dial.client(self.callee)
        elif noun == "sip":
            dial.sip(f"sip:{self.callee}@dialtone")
        elif noun == "number":
            dial.number(self.numbers["dial/client"])
        else:
            dial.application().application_sid(self.dialled)
        response.append(dial)
        return response

    def refer(self, to):
        response, refer = VoiceResponse(), Refer(action="/referred")
        refer.sip(f"sip:{self.numbers.get(to, to)}@{self.sip}")
        response.append(refer)
        return response

    def page(self, path):
        """What is told where there is no page ends the call."""
        _, folder, *rest = path.split("/")
        if folder == "dial":
            return self.dial(*rest)
        if folder == "refer":
            return self.refer(*rest)
        if folder == "coach":
            return room(coach=self.told("/room")["CallSid"])
        return PAGES.get(folder, hang_up)()

    def answer(self, request):
        path, _, query = request.path.partition("?")
        self.asked.append((path, dict(parse_qsl(f"{query}&{request.form}", keep_blank_values=True)), time.monotonic()))
        if path.startswith("/sound/"):
            return request.document(wav(SOUNDS[path[7:-4]]), "audio/wav")
        request.document(str(self.page(path)))

    def to(self, path, **wanted):
        """The parameters of what came to a path with these, in order."""
        return [params for at, params, _ in list(self.asked) if at == path and wanted.items() <= params.items()]

    def told(self, path, seconds=5, **wanted):
        """The first of them."""
        return wait_for(lambda: self.to(path, **wanted), seconds, f"a request for {path} with {wanted}")[0]

    def when(self, path):
        """When it was asked for this, first."""
        return next(at for known, _, at in list(self.asked) if known == path)
