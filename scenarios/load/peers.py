"""The servers that are compared: ours, and Kamailio with rtpengine from Debian."""

import os
import pathlib
import shutil
import subprocess

from lib.scenario import wait_for
from lib.server import Server, base_config, number, trunk
from lib.sip import Phone

APP, CALLER, CALLEE = 16030, 16080, 16090
OURS, THEIRS, CONTROL = ("127.0.0.1", 16060), ("127.0.0.1", 16061), 16062


def is_bound(port):
    """Whether somebody listens on this UDP port of loopback."""
    return any(line.split()[1].endswith(f":{port:04X}") for line in open("/proc/net/udp").readlines()[1:])


class Peer:
    """A server: its name, its SIP address, and the processes whose cost counts."""

    def pids(self):
        """Its processes and all their descendants."""
        found, children = [], {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    parent = int(open(f"{entry.path}/stat").read().rsplit(")", 1)[1].split()[1])
                    children.setdefault(parent, []).append(int(entry.name))
                except OSError:
                    continue
        ahead = list(self.roots())
        while ahead:
            pid = ahead.pop()
            found.append(pid)
            ahead += children.get(pid, [])
        return found

    def cpu_us(self):
        """Time on a processor since they began, microseconds."""
        total = 0
        for pid in self.pids():
            for task in os.scandir(f"/proc/{pid}/task"):
                try:
                    total += int(open(f"{task.path}/schedstat").read().split()[0])
                except OSError:
                    continue
        return total / 1000

    def memory_kb(self):
        """Resident memory of its own: what is shared among its processes counts once."""
        total = 0
        for pid in self.pids():
            lines = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total


class Ours(Peer):
    name, address = "dialtone", OURS

    def __init__(self, scenario, workers=0):
        # Theirs is no more than two processes either; what a worker process costs beside this is in docs/cluster.md.
        config = base_config(
            f"{OURS[0]}:{OURS[1]}",
            "127.0.0.1:16040",
            "17000-24999",
            drain=20,
            workers=workers,
            more=number("answer", "<Pause length='3600'/>", answer="at-once")
            + number("bridge", f"<Dial answerOnBridge='true'><Sip>sip:callee@127.0.0.1:{CALLEE}</Sip></Dial>")
            + number("ivr", voice_url=f"http://127.0.0.1:{APP}/voice", answer="at-once")
            + trunk("load", **{"from": ["127.0.0.1/32"]}),
        )
        # As in service: one line a call would be the operator's choice, and is not asked of the others either.
        self.server = Server(scenario, config, log_level="warn").start()

    def roots(self):
        return [self.server.process.pid]

    def stop(self):
        return self.server.stop()

    def left(self):
        """What is left of calls: live ones, and legs with media."""
        return len(self.server.live()), self.server.legs_with_ports()


class Theirs(Peer):
    """Kamailio as a proxy to the callee; for the user `media` through rtpengine, in user space like ours."""

    name, address = "kamailio + rtpengine", THEIRS

    def __init__(self, scenario):
        self.scenario, folder = scenario, scenario.folder
        modules = next(path for path in pathlib.Path("/usr/lib").glob("*/kamailio/modules"))
        (folder / "kamailio.cfg").write_text(KAMAILIO.replace("@MODULES@", str(modules)).replace("@FOLDER@", str(folder)))
        log = folder / "rtpengine.log"
        self.media = scenario.start(
            ["rtpengine", "--config-file=none", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{CONTROL}", "--port-min=25000", "--port-max=30999", "--table=-1",
             "--log-level=3", "--num-threads=2", "--foreground", "--log-stderr", f"--pidfile={folder}/rtpengine.pid"], log=log.name)
        wait_for(lambda: is_bound(CONTROL), 5, "rtpengine to listen")
        self.proxy = scenario.start(
            ["kamailio", "-DD", "-E", "-f", folder / "kamailio.cfg", "-P", folder / "kamailio.pid", "-Y", folder, "-m", "512", "-M", "16"], log="kamailio.log")
        wait_for(self._answers, 10, "Kamailio to answer")

    def _answers(self):
        if self.proxy.poll() is not None or self.media.poll() is not None:
            raise RuntimeError("Kamailio or rtpengine ended: see its log")
        phone = Phone(THEIRS)
        phone.transport.send(phone.build("OPTIONS", "sip:dialtone"))
        answer = phone.transport.find(lambda m: m.status, 0.3)
        phone.close()
        return answer

    def roots(self):
        return [self.proxy.pid, self.media.pid]

    def stop(self):
        self.scenario.end(self.proxy)
        self.scenario.end(self.media)
        return 0


def install():
    """Installs what is missing of Kamailio and rtpengine; nothing of it is started by that."""
    missing = [package for program, package in (("kamailio", "kamailio"), ("rtpengine", "rtpengine-daemon")) if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run([*sudo, "apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL, env=environment)


KAMAILIO = f"""#!KAMAILIO
debug=-1
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:{THEIRS[0]}:{THEIRS[1]}
mpath="@MODULES@/"
loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:{CONTROL}")

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{
            if (is_method("BYE") && check_route_param("media=1")) rtpengine_delete();
            t_relay();
        }} else if (is_method("BYE")) {{
            sl_send_reply("200", "OK");
        }}
        exit;
    }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (!is_method("INVITE")) exit;
    if ($rU == "answer") {{
        t_newtran();
        append_to_reply("Contact: <sip:answer@{THEIRS[0]}:{THEIRS[1]}>\\r\\n");
        set_reply_body("v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\nm=audio 9 RTP/AVP 0\\r\\n", "application/sdp");
        t_reply("200", "OK");
        exit;
    }}
    if ($rU == "media") {{
        add_rr_param(";media=1");
        rtpengine_offer("replace-origin replace-session-connection ICE=remove");
        t_on_reply("MEDIA");
    }}
    record_route();
    $du = "sip:127.0.0.1:{CALLEE}";
    t_relay();
}}

onreply_route[MEDIA] {{
    if (has_body("application/sdp")) rtpengine_answer("replace-origin replace-session-connection ICE=remove");
}}
"""
