"""The telephone line of a small company, in Flask. `app.js` is the same in Express."""

import functools
import io
import os
import pathlib
import wave

import requests
from flask import Flask, abort, jsonify, make_response, request, url_for
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

ACCOUNT, TOKEN = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
INBOX = pathlib.Path(os.environ["INBOX"])
COMPANY = "+15556000"
# Who may join the conference: whether it is the moderator.
PINS = {"1234": False, "9876": True}

client = Client(ACCOUNT, TOKEN)
client.api.base_url = os.environ["TWILIO_BASE_URL"]
app = Flask(__name__, static_folder=os.environ["SOUNDS"], static_url_path="/sounds")
messages = []
calendar = None


def validate_twilio_request(view):
    """Validates that incoming requests genuinely originated from Twilio."""

    @functools.wraps(view)
    def decorated(*args, **kwargs):
        validator = RequestValidator(TOKEN)
        if validator.validate(request.url, request.form, request.headers.get("X-Twilio-Signature", "")):
            return view(*args, **kwargs)
        return abort(403)

    return decorated


def webhook(path):
    return lambda view: app.post(path)(validate_twilio_request(view))


def twiml(response):
    return make_response(str(response), 200, {"Content-Type": "text/xml"})


def sound(name):
    """A recording in the language that the caller has chosen."""
    return f"/sounds/{name}-{request.cookies.get('language', 'en')}.wav"


@webhook("/voice")
def voice():
    response = VoiceResponse()
    response.say("Welcome to Example.")
    response.redirect("/menu")
    return twiml(response)


@webhook("/menu")
def menu():
    tries = int(request.args.get("tries", 1))
    response = VoiceResponse()
    gather = Gather(num_digits=1, action="/choice", timeout=2)
    gather.play(sound("menu"))
    response.append(gather)
    # Who presses nothing comes here.
    response.play(sound("nothing"))
    if tries < 2:
        response.redirect(f"/menu?tries={tries + 1}")
    else:
        response.say("Goodbye.")
        response.hangup()
    return twiml(response)


@webhook("/choice")
def choice():
    response = VoiceResponse()
    pages = {"1": "/sales", "2": "/voicemail", "3": "/conference", "4": "/reach", "0": "/operator"}
    digits = request.form["Digits"]
    if digits in pages:
        response.redirect(pages[digits])
        return twiml(response)
    if digits != "8":
        response.play(sound("wrong"))
    response.redirect("/menu")
    answer = twiml(response)
    if digits == "8":
        answer.set_cookie("language", "de")
    return answer


# 1: sales.


@webhook("/sales")
def sales():
    response = VoiceResponse()
    response.enqueue("sales", wait_url="/sales/wait", action="/sales/left")
    return twiml(response)


@webhook("/sales/wait")
def sales_wait():
    response = VoiceResponse()
    response.play(sound("wait"))
    return twiml(response)


@webhook("/sales/left")
def sales_left():
    response = VoiceResponse()
    if request.form["QueueResult"] == "bridged":
        response.play(sound("thanks"))
    response.hangup()
    return twiml(response)


@webhook("/agent")
def agent():
    response = VoiceResponse()
    dial = Dial(action="/agent/done", timeout=10)
    dial.queue("sales")
    response.append(dial)
    return twiml(response)


@webhook("/agent/done")
def agent_done():
    response = VoiceResponse()
    response.hangup()
    return twiml(response)


# 2: voicemail.


@webhook("/voicemail")
def voicemail():
    response = VoiceResponse()
    response.record(action="/voicemail/done", finish_on_key="#", timeout=3, max_length=60, trim="do-not-trim", recording_status_callback="/voicemail/recording")
    return twiml(response)


@webhook("/voicemail/done")
def voicemail_done():
    response = VoiceResponse()
    response.play(sound("thanks"))
    response.hangup()
    return twiml(response)


@webhook("/voicemail/recording")
def voicemail_recording():
    """Keeps the message here, and not there."""
    download = requests.get(request.form["RecordingUrl"] + ".wav", auth=(ACCOUNT, TOKEN), timeout=5)
    download.raise_for_status()
    with wave.open(io.BytesIO(download.content)) as file:
        form = {"channels": file.getnchannels(), "rate": file.getframerate(), "bits": file.getsampwidth() * 8, "seconds": file.getnframes() / file.getframerate()}
    name = request.form["RecordingSid"] + ".wav"
    (INBOX / name).write_bytes(download.content)
    client.recordings(request.form["RecordingSid"]).delete()
    messages.append({"call": request.form["CallSid"], "file": name, **form})
    return "", 204


@app.get("/inbox")
def inbox():
    return jsonify(messages)


# 3: conference.


@webhook("/conference")
def conference():
    response = VoiceResponse()
    gather = Gather(num_digits=4, finish_on_key="#", action="/conference/pin", timeout=5)
    gather.play(sound("pin"))
    response.append(gather)
    response.redirect("/menu")
    return twiml(response)


@webhook("/conference/pin")
def conference_pin():
    response = VoiceResponse()
    pin = request.form["Digits"]
    if pin not in PINS:
        response.play(sound("wrong"))
        response.redirect("/conference")
        return twiml(response)
    dial = Dial(action="/conference/left")
    dial.conference(
        "company", start_conference_on_enter=PINS[pin], end_conference_on_exit=PINS[pin], beep=False, wait_url="/conference/wait",
        status_callback="/conference/told", status_callback_event="start end join leave",
    )
    response.append(dial)
    return twiml(response)


@webhook("/conference/wait")
def conference_wait():
    response = VoiceResponse()
    response.play(sound("wait"))
    return twiml(response)


@webhook("/conference/left")
def conference_left():
    response = VoiceResponse()
    response.play(sound("thanks"))
    response.hangup()
    return twiml(response)


@webhook("/conference/told")
def conference_told():
    return "", 204


# 4: somebody at a desk.


@webhook("/reach")
def reach():
    response = VoiceResponse()
    dial = Dial(action="/reach/done", timeout=5, answer_on_bridge=True)
    dial.client("desk", status_callback="/reach/status", status_callback_event="initiated ringing answered completed")
    response.append(dial)
    return twiml(response)


@webhook("/reach/done")
def reach_done():
    response = VoiceResponse()
    if request.form["DialCallStatus"] == "completed":
        response.hangup()
    else:
        response.play(sound("away"))
        response.redirect("/voicemail")
    return twiml(response)


@webhook("/reach/status")
def reach_status():
    return "", 204


# 0: the operator calls back.


@webhook("/operator")
def operator():
    message = VoiceResponse()
    message.play(url_for("static", filename="operator-en.wav", _external=True))
    message.say("This was the operator.")
    client.calls.create(
        to=request.form["From"], from_=COMPANY, twiml=str(message), status_callback=url_for("operator_status", _external=True),
        status_callback_event=["initiated", "ringing", "answered", "completed"],
    )
    response = VoiceResponse()
    response.play(sound("thanks"))
    response.hangup()
    return twiml(response)


@webhook("/operator/status")
def operator_status():
    return "", 204


# Of the numbers.


@webhook("/opening-hours")
def opening_hours():
    """Fails for the first caller, who makes it load what is missing."""
    global calendar
    if calendar is None:
        calendar = {"open": True}
        raise RuntimeError("the calendar was not loaded")
    response = VoiceResponse()
    response.redirect("/voice" if calendar["open"] else "/voicemail")
    return twiml(response)


@webhook("/fallback")
def fallback():
    response = VoiceResponse()
    response.play(sound("sorry"))
    response.redirect("/menu")
    return twiml(response)


@webhook("/status")
def status():
    return "", 204


app.run(port=int(os.environ["PORT"]))
