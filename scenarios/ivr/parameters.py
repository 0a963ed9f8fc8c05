"""Which parameters each request of the server has, no others: what must be there, and what may be."""

CALL = set("CallSid AccountSid From To Caller Called CallStatus Direction ApiVersion".split())
REQUEST = CALL | {"SipCallId", "SipDomain", "SipSourceIp"}
DIALLED = REQUEST | {"DialCallStatus", "DialBridged"}
STEP = CALL | {"CallbackSource", "SequenceNumber", "Timestamp"}
LAST = {"CallDuration", "Duration", "SipResponseCode"}
RECORDING = {"RecordingSid", "RecordingUrl", "RecordingDuration"}
CONFERENCE = {"AccountSid", "ConferenceSid", "FriendlyName"}
MEMBER = {"CallSid", "Muted", "Hold", "Coaching", "StartConferenceOnEnter", "EndConferenceOnExit"}

MUST = {
    "/choice": REQUEST | {"Digits", "FinishedOnKey"},
    "/sales/wait": REQUEST | {"QueueSid", "QueuePosition", "QueueTime", "AvgQueueTime", "CurrentQueueSize"},
    "/sales/left": REQUEST | {"QueueSid", "QueueResult", "QueueTime"},
    "/agent/done": DIALLED | {"DialCallSid", "DialCallDuration"},
    "/voicemail/done": REQUEST | RECORDING | {"Digits"},
    "/voicemail/recording": RECORDING
    | {"AccountSid", "CallSid", "RecordingStatus", "RecordingChannels", "RecordingStartTime", "RecordingSource", "RecordingTrack", "ErrorCode"},
    "/conference/pin": REQUEST | {"Digits", "FinishedOnKey"},
    "/conference/wait": CONFERENCE,
    "/conference/told": CONFERENCE | {"StatusCallbackEvent", "SequenceNumber", "Timestamp"},
    "/conference/left": DIALLED | {"ConferenceSid"},
    "/reach/status": STEP | {"ParentCallSid"},
    "/reach/done": DIALLED | {"DialCallSid"},
    "/operator/status": STEP,
    "/fallback": REQUEST | {"ErrorCode", "ErrorUrl"},
    "/status": STEP,
}
MAY = {
    # The program's own query.
    "/menu": {"tries"},
    "/reach/done": {"DialCallDuration", "DialSipCallId", "DialSipResponseCode"},
}
TOLD = {
    "conference-start": set(),
    "conference-end": {"CallSidEndingConference", "ReasonConferenceEnded", "Reason"},
    "participant-join": MEMBER,
    "participant-leave": MEMBER | {"ParticipantCallStatus", "ReasonParticipantLeft"},
}
FINAL = {"completed", "busy", "no-answer", "canceled", "failed"}


def wrong(path, params):
    """What is missing or too much in a request, or `None`."""
    names = set(params)
    must = MUST.get(path, REQUEST) | TOLD.get(params.get("StatusCallbackEvent"), set())
    if "CallbackSource" in must and params.get("CallStatus") in FINAL:
        must = must | LAST
    may = MAY.get(path, set()) | ({"SipUsername"} if "SipCallId" in must else set())
    if must <= names and names - must <= may:
        return None
    return path, sorted(must - names), sorted(names - must - may)
