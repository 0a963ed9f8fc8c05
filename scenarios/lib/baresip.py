"""The softphone baresip, without sound hardware: it plays a file and records what it hears."""

import glob
import os
import socket
import struct
import subprocess
import time
import wave

from .scenario import wait_for


def write_wave(path, samples, hertz=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hertz)
        file.writeframes(struct.pack(f"<{len(samples)}h", *map(int, samples)))


def read_wave(path):
    """Samples of a file that may still grow: its header's length is not believed."""
    samples = path.read_bytes().partition(b"data")[2][4:]
    count = len(samples) // 2
    return list(struct.unpack(f"<{count}h", samples[: 2 * count]))


class Baresip:
    """One baresip. `sip` is its own port (it takes the next one too), `console` takes its commands, `rtp` is a pair of ports.
    It plays `plays` in each call, from the beginning, and hangs up at the end of it; `writes_to` is the user or number that its texts go to.
    `modules` are loaded besides, and `account` and `contact` are parameters of its account and of whom it writes to;
    `settings` are lines of its configuration. `codec` is a module of baresip's; what it plays and hears has `hertz` samples a second."""

    def __init__(self, scenario, name, server, username, password, sip, console, rtp, plays, writes_to=None, host="127.0.0.1", modules=(), account="", contact="", settings="", codec="g711", hertz=8000):
        self.name, self.console, self.server, self.mark = name, console, server, 0
        self.folder = scenario.folder / name
        self.folder.mkdir()
        write_wave(self.folder / "plays.wav", plays, hertz)
        folder = next(path for path in ("/usr/lib/baresip/modules", *glob.glob("/usr/lib/*/baresip/modules")) if os.path.isdir(path))
        (self.folder / "accounts").write_text(f"<sip:{username}@{server}>;auth_pass={password};regint=60{account}\n")
        (self.folder / "contacts").write_text(f'"{writes_to}" <sip:{writes_to}@{server}>{contact}\n' if writes_to else "")
        more = "".join(f"module_app {module}.so\n" for module in modules)
        (self.folder / "config").write_text(f"""
poll_method epoll
sip_listen {host}:{sip}
net_interface {host}
audio_source aufile,{self.folder}/plays.wav
audio_player aubridge,nobody
audio_alert aubridge,nobody
ausrc_srate {hertz}
auplay_srate {hertz}
rtp_ports {rtp[0]}-{rtp[1]}
call_local_timeout 60
cons_listen 127.0.0.1:{console}
snd_path {self.folder}
module_path {folder}
statmode_default off
module stdio.so
module {codec}.so
module aufile.so
module aubridge.so
module sndfile.so
module_app account.so
module_app contact.so
module_app menu.so
module cons.so
{more}{settings}""")
        # Texts are shown by `stdio`, which wants a standard input that stays open.
        self.process = scenario.start(["baresip", "-f", self.folder], log=f"{name}.log", stdin=subprocess.PIPE)
        self.log_file = scenario.folder / f"{name}.log"
        scenario.on_failure(lambda: f"--- {name}\n{self.log()[-3000:]}")

    def log(self):
        return self.log_file.read_text(errors="replace")

    def says(self, text, seconds=8):
        """Waits until it has printed this since `forget`."""
        is_said = lambda: text in self.log()[self.mark :]
        wait_for(lambda: is_said() or self.process.poll() is not None, seconds, f"{self.name} to say {text!r}")
        if not is_said():
            raise RuntimeError(f"baresip ended\n{self.log()}")

    def command(self, text):
        """What would be typed, such as `/dial URI`."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
            console.sendto(text.encode(), ("127.0.0.1", self.console))

    def dial(self, user):
        self.command(f"/dial sip:{user}@{self.server}\n")

    def accept(self):
        self.command("/accept\n")

    def hang_up(self):
        self.command("/hangup\n")

    def write(self, text):
        """Sends a text to whom it writes to."""
        self.command(f"/message {text}\n")

    def press(self, key, seconds=0.12):
        """Holds a key down for a while, then releases it."""
        self.command(key)
        time.sleep(seconds)
        self.command("\x04")

    def heard(self):
        """Samples of what it has heard in its calls since `forget`. Two calls that begin in the same second are heard as one."""
        files = sorted(self.folder.glob("dump-*-dec.wav"))
        return [sample for file in files for sample in read_wave(file)]

    def forget(self):
        """What it has heard and printed so far does not count any more."""
        self.mark = len(self.log())
        for file in self.folder.glob("dump-*.wav"):
            file.unlink()
