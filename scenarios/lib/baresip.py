"""The softphone baresip, without sound hardware: it plays a file and records what it hears."""

import glob
import os
import socket
import time
import wave

from .scenario import wait_for


def write_wave(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(int(sample).to_bytes(2, "little", signed=True) for sample in samples))


def read_wave(path):
    """Samples of a file that may still grow: its header's length is not believed."""
    data = path.read_bytes()
    start = data.find(b"data") + 8
    data = data[start : start + (len(data) - start) // 2 * 2]
    return [int.from_bytes(data[at : at + 2], "little", signed=True) for at in range(0, len(data), 2)]


class Baresip:
    """One baresip. `sip` is its own port, `console` takes its commands, `rtp` is a pair of ports."""

    def __init__(self, scenario, name, server, username, password, sip, console, rtp, plays):
        self.name, self.console, self.server = name, console, server
        self.folder = scenario.folder / name
        self.folder.mkdir()
        write_wave(self.folder / "plays.wav", plays)
        modules = next(path for path in ("/usr/lib/baresip/modules", *glob.glob("/usr/lib/*/baresip/modules")) if os.path.isdir(path))
        (self.folder / "accounts").write_text(f"<sip:{username}@{server}>;auth_pass={password};regint=60\n")
        (self.folder / "contacts").write_text("")
        (self.folder / "config").write_text(f"""
poll_method epoll
sip_listen 127.0.0.1:{sip}
net_interface 127.0.0.1
audio_source aufile,{self.folder}/plays.wav
audio_player aubridge,nobody
audio_alert aubridge,nobody
ausrc_srate 8000
auplay_srate 8000
rtp_ports {rtp[0]}-{rtp[1]}
call_local_timeout 60
cons_listen 127.0.0.1:{console}
snd_path {self.folder}
module_path {modules}
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app menu.so
module cons.so
""")
        self.process = scenario.start(["baresip", "-f", self.folder], log=f"{name}.log")
        self.log_file = scenario.folder / f"{name}.log"
        scenario.on_failure(lambda: f"--- {name}\n{self.log()[-3000:]}")

    def log(self):
        return self.log_file.read_text(errors="replace")

    def says(self, text, seconds=8):
        """Waits until it has printed this."""
        wait_for(lambda: text in self.log() or self.process.poll() is not None, seconds, f"{self.name} to say {text!r}")
        if text not in self.log():
            raise RuntimeError(f"baresip ended\n{self.log()}")

    def command(self, text):
        """What would be typed, such as `/dial URI`."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
            console.sendto(text.encode(), ("127.0.0.1", self.console))

    def dial(self, user):
        self.command(f"/dial sip:{user}@{self.server}\n")

    def press(self, key, seconds=0.12):
        """Holds a key down for a while, then releases it."""
        self.command(key)
        time.sleep(seconds)
        self.command("\x04")

    def heard(self):
        """Samples of what it has heard so far in its calls."""
        files = sorted(self.folder.glob("dump-*-dec.wav"))
        return [sample for file in files for sample in read_wave(file)]
