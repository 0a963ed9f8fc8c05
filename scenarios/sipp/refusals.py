"""What is refused, with which status, and what the refusal must say: RFC 3261 s8.2, s21.4, s21.5."""

from lib.sip import sdp

GOOD = sdp("127.0.0.1", 11650)
NUMBER = "sip:+15551000@dialtone"


def invite(uri=NUMBER, body=GOOD, **parts):
    return lambda phone: phone.build("INVITE", uri, body=body, **parts)


def request(method, uri=NUMBER, **parts):
    return lambda phone: phone.build(method, uri, **parts)


def changed(old, new, **parts):
    """An INVITE with one piece of its text replaced."""
    return lambda phone: invite(**parts)(phone).replace(old, new)


# name, request, status, and header: a part of its value
REFUSALS = [
    ("488 no common codec", invite(body=sdp("127.0.0.1", 11650, payloads=(18, 3))), 488, {}),
    ("400 body is no sdp at all", invite(body="hello, world\r\n"), 400, {}),
    ("481 BYE outside a dialog", request("BYE", to=f"<{NUMBER}>;tag=feed"), 481, {}),
    ("481 re-INVITE outside a dialog", invite(to=f"<{NUMBER}>;tag=feed"), 481, {}),
    ("481 CANCEL of nothing", request("CANCEL"), 481, {}),
    ("481 INFO outside a dialog", request("INFO", to=f"<{NUMBER}>;tag=feed"), 481, {}),
    ("483 no hop left", invite(headers=["Max-Forwards: 0"]), 483, {}),
    ("404 nobody has the number", invite("sip:+19995550100@dialtone"), 404, {}),
    ("484 no number was dialled", invite("sip:dialtone"), 484, {}),
    ("403 SUBSCRIBE of a trunk", request("SUBSCRIBE"), 403, {}),
    ("403 MESSAGE of a trunk", request("MESSAGE"), 403, {}),
    ("481 REFER without a dialog", request("REFER"), 481, {}),
    ("403 PUBLISH of a trunk", request("PUBLISH"), 403, {}),
    ("501 unknown method", request("FROBNICATE"), 501, {"Allow": "INVITE"}),
    ("415 body of another type", invite(body="x", content_type="text/plain"), 415, {"Accept": "application/sdp"}),
    ("415 encoded body", invite(headers=["Content-Encoding: gzip"]), 415, {"Accept-Encoding": "identity"}),
    ("416 unknown scheme", invite("foo:bar"), 416, {}),
    ("420 unknown extension", invite(headers=["Require: 100rel, wormhole"]), 420, {"Unsupported": "wormhole"}),
    ("505 unknown version", changed("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505, {}),
    ("400 no From", changed("From:", "X-From:"), 400, {}),
    ("400 Max-Forwards is no number", invite(headers=["Max-Forwards: many"]), 400, {}),
    ("400 no Contact", changed("Contact:", "X-Contact:"), 400, {}),
    ("406 sdp is not accepted", invite(headers=["Accept: text/plain"]), 406, {}),
]
