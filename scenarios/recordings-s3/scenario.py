"""Recordings go into a bucket, are served from it and deleted in it; and calls do not notice whether it is there."""

import contextlib
import io
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time
import wave

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy
import requests

from lib.rtp import Rtp, correlation, noise, ulaw_encode
from lib.scenario import Scenario, wait_for
from lib.server import ACCOUNT, AUTH_TOKEN, Server, base_config, number, trunk
from lib.sip import Phone, sdp
from storage import BUCKET, REGION, Relay, Storage

HTTP, MOTO, RELAY, SIP, TRUNK = "127.0.0.1:11400", 11401, 11402, ("127.0.0.1", 11410), "127.0.0.2"
PREFIX, NUMBER, RATE = "calls/of-test", "+15553300", 8000
REQUESTS = "dialtone_recording_storage_requests_total"


def config(more):
    """A server whose calls to the number are recorded in both directions, each in a channel of its own."""
    verbs = '<Start><Recording channels="dual" trim="do-not-trim"/></Start><Pause length="30"/>'
    parties = number(NUMBER, verbs, answer="at-once") + trunk("carrier", **{"from": [f"{TRUNK}/32"]})
    return base_config(f"{SIP[0]}:{SIP[1]}", HTTP, "11420-11459", more=f"{parties}\n[recordings]\n{more}\n")


def bucket(**keys):
    """The keys of a bucket that is reached by the relay, or others in their place."""
    known = {
        "url": f"s3://{BUCKET}/{PREFIX}", "endpoint": f"http://127.0.0.1:{RELAY}", "region": REGION, "access_key_id": "${S3_KEY}",
        "secret_access_key": "file:secret",
    }
    return "\n".join(f'{key} = "{value}"' for key, value in (known | keys).items())


def first_channel(data):
    with wave.open(io.BytesIO(data)) as file:
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())[:, 0]


class Bucket:
    def __init__(self, scenario):
        self.scenario, self.seed, self.answers = scenario, 0, []

    def start(self):
        self.storage, self.relay = Storage(self.scenario, MOTO), Relay(RELAY, MOTO)
        self.relay.open()
        self.server = Server(self.scenario, config(bucket()), log_level="debug")
        (self.server.folder / "secret").write_text(self.storage.secret + "\n")
        self.files = self.server.folder / "data" / "recordings"
        self.go()

    def go(self, key=None):
        self.server.start(environment={"S3_KEY": key or self.storage.key})

    # What a customer does.

    def ask(self, method, path, login=(ACCOUNT, AUTH_TOKEN), **headers):
        response = requests.request(method, f"http://{HTTP}/2010-04-01/Accounts/{ACCOUNT}{path}", auth=login, headers=headers, timeout=10)
        self.answers.append(response)
        return response

    def record(self):
        """A call in which somebody speaks: the sid of its recording when that is complete, and what was said."""
        self.seed += 1
        said = noise(0.5, self.seed)
        phone, rtp = Phone(SIP, "+15559000", local=(TRUNK, 0)), Rtp()
        call = phone.invite(NUMBER, sdp("127.0.0.1", rtp.port)).accepted()
        rtp.remote = call.answer.media()
        rtp.play(ulaw_encode([0] * 400 + said + [0] * 800))
        self.scenario.equal(call.bye().status, 200, "BYE")
        self.scenario.equal(self.server.ended(call.call_id)["status"], "completed", "the call")
        phone.close(), rtp.close()
        look = lambda: self.ask("GET", "/Recordings.json").json()["recordings"][0]
        newest = wait_for(lambda: (one := look())["status"] == "completed" and one, 5, "the recording")
        return newest["sid"], said

    def audio(self, sid, suffix="", **headers):
        return self.ask("GET", f"/Recordings/{sid}{suffix}", **headers)

    def holds(self, data, said):
        found = correlation(said, first_channel(data))
        self.scenario.check(found >= 0.9, f"what was said: correlation {found:.3f}")
        others = [correlation(noise(0.5, seed), first_channel(data)) for seed in (self.seed + 50, self.seed + 51)]
        self.scenario.check(max(others) < 0.5, f"what others would have said passes with {max(others):.3f}")

    # What an operator sees.

    def object(self, sid):
        return f"{PREFIX}/{sid}.wav"

    def here(self, sid):
        """Its files in the folder."""
        return sorted(path.name for path in self.files.glob(f"{sid}*"))

    def wait_moved(self, sid, seconds=8):
        """Waits until it is in the bucket and nothing of it in the folder."""
        wait_for(lambda: self.object(sid) in self.storage.names() and not self.here(sid), seconds, "the upload", every=0.05)

    def counted(self, op, outcome):
        try:
            return self.server.metric(REQUESTS, op=op, outcome=outcome)
        except KeyError:
            return 0.0

    def tells(self, text):
        return [line for line in self.server.log().splitlines() if text in line]

    # Steps.

    def faults(self):
        """What `dialtone check` says of wrong keys."""
        told = {
            f'folder = "x"\n{bucket()}': "`folder` and `url` exclude each other: keep one",
            bucket(endpoint="http://198.51.100.1"): "wrong value of `endpoint`: recordings would go over the network as they are",
            bucket(secret_access_key="file:none"): "wrong value of `secret_access_key`: cannot read the secret in none",
        }
        for keys, text in told.items():
            wrong = self.server.folder / "wrong.toml"
            wrong.write_text(config(keys))
            code, said = self.server.run("check", "--config", "wrong.toml")
            self.scenario.check(code == 1 and text in said and "wrong.toml:" in said, f"check: {code} {said}")
        code, said = self.server.run("check", "--config", "dialtone.toml")
        self.scenario.equal(code, 0, f"check of a right file: {said}")

    def upload(self):
        """What is complete is in the bucket, and nowhere else."""
        self.sid, self.said = self.record()
        self.wait_moved(self.sid)
        self.scenario.equal(self.storage.names(), [self.object(self.sid)], "objects")
        self.wav = self.storage.read(self.object(self.sid))
        self.holds(self.wav, self.said)
        self.scenario.check(self.counted("upload", "ok") >= 1, "no upload is counted")

    def downloads(self):
        """Whole, in part, by HEAD, in other forms, and by nobody else: as from a folder."""
        equal, size = self.scenario.equal, len(self.wav)
        for suffix in ("", ".wav"):
            whole = self.audio(self.sid, suffix)
            equal((whole.status_code, whole.headers["Content-Type"], whole.content == self.wav), (200, "audio/x-wav", True), "all of it")
            equal((whole.headers["Content-Length"], whole.headers["Accept-Ranges"]), (str(size), "bytes"), "its headers")
        for asked, first, last in (("1000-2999", 1000, 2999), ("0-", 0, size - 1), ("-500", size - 500, size - 1), (f"100-{size * 2}", 100, size - 1)):
            part = self.audio(self.sid, Range=f"bytes={asked}")
            equal((part.status_code, part.headers["Content-Range"]), (206, f"bytes {first}-{last}/{size}"), f"range {asked}")
            equal((part.headers["Content-Length"], part.content == self.wav[first : last + 1]), (str(last + 1 - first), True), f"bytes {asked}")
        for asked in (f"{size}-", "5-1", "0-1,5-6", "x"):
            part = self.audio(self.sid, Range=f"bytes={asked}")
            equal((part.status_code, part.headers["Content-Range"]), (416, f"bytes */{size}"), f"range {asked}")
        head = self.ask("HEAD", f"/Recordings/{self.sid}")
        equal((head.status_code, head.headers["Content-Length"], head.content), (200, str(size), b""), "HEAD")
        head = self.ask("HEAD", f"/Recordings/{self.sid}", Range="bytes=0-9")
        equal((head.status_code, head.headers["Content-Length"]), (206, "10"), "HEAD of a range")
        self.relay.to_break = 1
        equal((self.audio(self.sid).content == self.wav, self.relay.to_break), (True, 0), "all of it, after a connection that broke")
        equal(self.ask("GET", f"/Recordings/{self.sid}", login=None).status_code, 401, "without credentials")
        equal(self.audio("RE" + "0" * 32).status_code, 404, "of no recording")

    def other_forms(self):
        """Opus and MP3 are made of the object for each request, be there a folder or not, and nothing is left in it."""
        equal, folder = self.scenario.equal, self.scenario.folder
        self.files.rmdir()
        opus = self.audio(self.sid, ".opus")
        equal((opus.status_code, opus.headers["Content-Type"]), (200, "audio/ogg"), "opus")
        (folder / "one.opus").write_bytes(opus.content)
        done = subprocess.run(["opusdec", "--quiet", "--no-dither", "--rate", str(RATE), "one.opus", "one.wav"], cwd=folder)
        equal(done.returncode, 0, "opusdec")
        decoded = (folder / "one.wav").read_bytes()
        self.holds(decoded, self.said)
        equal(len(first_channel(decoded)), len(first_channel(self.wav)), "samples")
        part = self.audio(self.sid, ".opus", Range="bytes=100-199")
        equal((part.status_code, part.content), (206, opus.content[100:200]), "a range of the opus file")
        if shutil.which("lame") or shutil.which("ffmpeg"):
            mp3 = self.audio(self.sid, ".mp3")
            equal((mp3.status_code, mp3.headers["Content-Type"], len(mp3.content) > 1000), (200, "audio/mpeg", True), "mp3")
        equal(list(self.files.iterdir()), [], "files of the folder")

    def deleted(self):
        """The object goes with the recording."""
        self.scenario.equal(self.ask("DELETE", f"/Recordings/{self.sid}.json").status_code, 204, "delete")
        self.scenario.equal(self.storage.names(), [], "objects")
        for suffix in ("", ".opus", ".json"):
            self.scenario.equal(self.audio(self.sid, suffix).status_code, 404, f"{suffix} of a deleted recording")

    def retention(self):
        """`keep_days` deletes the object of what is too old, and of nothing else."""
        (old, _), (young, said) = self.record(), self.record()
        for sid in (old, young):
            self.wait_moved(sid)
        self.scenario.equal(self.server.stop(), 0, "exit code")
        with contextlib.closing(sqlite3.connect(self.server.folder / "data" / "dialtone.db")) as database, database:
            database.execute("UPDATE records SET created_ms = created_ms - 2 * 86400000 WHERE sid = ?", [old])
        self.server.write_config(config(f"{bucket()}\nkeep_days = 1"))
        self.go()
        wait_for(lambda: self.storage.names() == [self.object(young)], 5, "the object to be deleted", every=0.05)
        wait_for(lambda: self.audio(old, ".json").status_code == 404, 5, "the recording to be deleted", every=0.05)
        self.holds(self.audio(young).content, said)
        self.young = young

    def away(self):
        """No storage: the call is as it was, its recording is served from the folder, and the log says it once."""
        equal, before = self.scenario.equal, self.counted("upload", "error")
        self.relay.close()
        sid, said = self.record()
        wait_for(lambda: self.counted("upload", "error") >= before + 2, 8, "two uploads to fail", every=0.05)
        equal(self.here(sid), [f"{sid}.wav"], "files")
        self.holds(self.audio(sid).content, said)
        part = self.audio(sid, Range="bytes=0-43")
        equal((part.status_code, part.content[:4]), (206, b"RIFF"), "a range from the folder")
        equal(self.audio(sid, ".opus").status_code, 200, "opus made of the folder's file")
        equal(self.audio(self.young).status_code, 503, "what is in the bucket")
        equal(self.ask("DELETE", f"/Recordings/{self.young}.json").status_code, 503, "delete of what is in the bucket")
        equal(self.audio(self.young, ".json").status_code, 200, "that recording")
        told = self.tells("the storage of recordings fails")
        for op in ("upload", "download", "delete"):
            (line,) = [line for line in told if f'op="{op}"' in line]
            self.scenario.check("Connection refused" in line and "endpoint can be reached" in line, f"what the log says: {line}")
        equal(self.server.get("/readyz")[0], 200, "/readyz")
        self.relay.open()
        self.wait_moved(sid)
        equal(len([line for line in self.tells("the storage of recordings answers again") if 'op="upload"' in line]), 1, "the end of it in the log")
        self.holds(self.audio(sid).content, said)
        equal(self.ask("DELETE", f"/Recordings/{self.young}.json").status_code, 204, "delete")

    def killed(self):
        """kill -9 between the end of a recording and its upload: the next start uploads it, in parts where it is long."""
        self.relay.close()
        sid, _ = self.record()
        stored = "SELECT 1 FROM records WHERE sid = ? AND status = 'completed'"
        wait_for(lambda: self.server.rows(stored, sid), 5, "the recording to be in the database", every=0.05)
        self.server.kill()
        # As when much was told since: the folder alone says what is left to do.
        shutil.rmtree(self.server.folder / "data" / "journal")
        file = self.files / f"{sid}.wav"
        whole = file.read_bytes() + numpy.random.default_rng(1).bytes(12_000_000)
        file.write_bytes(whole)
        self.relay.open()
        self.go()
        self.wait_moved(sid)
        self.scenario.check(self.storage.read(self.object(sid)) == whole, "the object is another than the file was")
        etag = self.storage.client.head_object(Bucket=BUCKET, Key=self.object(sid))["ETag"]
        self.scenario.check(etag.strip('"').endswith("-3"), f"12 MB are not three parts: {etag}")
        self.scenario.check(self.audio(sid).content == whole, "the download is another")
        self.scenario.equal(self.ask("DELETE", f"/Recordings/{sid}.json").status_code, 204, "delete")
        return f"{len(whole)} bytes in three parts"

    def half_made(self):
        """What a killed server left half made is gone after the start."""
        self.server.kill()
        (self.files / f"RE{'0' * 32}.1f.part").write_bytes(b"audio")
        (self.files / "readme.part").write_bytes(b"of somebody else")
        self.go()
        self.scenario.equal([path.name for path in self.files.iterdir()], ["readme.part"], "files of the folder")

    def wrong_credentials(self):
        """Refused: the recording stays, the log says what to do and no secret, and the next start with right ones uploads it."""
        equal = self.scenario.equal
        for key, secret, code in ((None, "wrong-secret-of-test", "SignatureDoesNotMatch"), ("AKIAOFNOBODY", None, "InvalidAccessKeyId")):
            equal(self.server.stop(), 0, "exit code")
            (self.server.folder / "secret").write_text(secret or self.storage.secret)
            before = len(self.tells("the storage of recordings fails"))
            self.go(key)
            sid, said = self.record()
            told = wait_for(lambda: self.tells("the storage of recordings fails")[before:], 5, "the log to say it")
            self.scenario.check(all(text in told[0] for text in (code, "403", "access_key_id and secret_access_key are right")), told[0])
            self.holds(self.audio(sid).content, said)
            equal((len(told), self.here(sid)), (1, [f"{sid}.wav"]), "lines of the log, and files")
        equal(self.server.stop(), 0, "exit code")
        (self.server.folder / "secret").write_text(self.storage.secret)
        self.go()
        self.wait_moved(sid)

    def nothing_is_told(self):
        """No secret is in the log at level debug, and no bucket in an answer."""
        for secret in (self.storage.secret, self.storage.key, "wrong-secret-of-test", "AKIAOFNOBODY"):
            self.scenario.check(secret not in self.server.log(), f"{secret} is in the log")
        for answer in self.answers:
            seen = f"{answer.headers} {answer.content[:2000]!r}"
            self.scenario.check(BUCKET not in seen and PREFIX not in seen and str(RELAY) not in seen, f"an answer names the bucket: {seen}")
        return f"{len(self.answers)} answers"

    def without_bucket(self):
        """Without `url` the same server keeps what is new in its folder, and asks no storage."""
        self.scenario.equal(self.server.stop(), 0, "exit code")
        self.server.write_config(config(""))
        self.server.start()
        before = self.storage.names()
        sid, said = self.record()
        self.holds(self.audio(sid).content, said)
        time.sleep(0.3)
        self.scenario.equal((self.here(sid), self.storage.names()), ([f"{sid}.wav"], before), "files, objects")
        self.scenario.equal(self.server.stop(), 0, "exit code")


def main():
    with Scenario(__file__) as scenario:
        bucket = Bucket(scenario)
        parts = [
            bucket.start, bucket.faults, bucket.upload, bucket.downloads, bucket.other_forms, bucket.deleted, bucket.retention, bucket.away,
            bucket.killed, bucket.half_made, bucket.wrong_credentials, bucket.nothing_is_told, bucket.without_bucket,
        ]
        for part in parts:
            scenario.step(part.__name__.replace("_", " "), part)
        scenario.summary = f"{bucket.seed} recordings kept in a bucket that was away and that refused"


main()
