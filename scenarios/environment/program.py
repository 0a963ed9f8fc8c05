"""Any program of the official package: it knows nothing of Dialtone."""

import json

from twilio.rest import Client

client = Client()
call = client.calls.create(to="client:bob", from_="+15552000", twiml="<Response><Pause/></Response>")
trunk = client.trunking.v1.trunks.create(friendly_name="by another host")
print(json.dumps({"call": call.sid, "listed": [one.sid for one in client.calls.list(limit=5)], "trunk": trunk.sid}))
