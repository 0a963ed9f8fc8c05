"""A collector of SIP messages by HEPv3, as its specification says."""

import socket
import struct
import threading

SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, KIND, NODE, PASSWORD, PAYLOAD = 3, 4, 7, 8, 11, 12, 14, 15


class Collector(threading.Thread):
    """Keeps what it is sent: the chunks of each message, by kind."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.messages, self.faults = [], []
        self.start()

    def run(self):
        while True:
            packet = self.socket.recv(65536)
            try:
                self.messages.append(chunks(packet))
            except (AssertionError, struct.error) as fault:
                self.faults.append((fault, packet))

    def of(self, call_id):
        """Where each message of a call went, its first line and CSeq, in order; what was sent again counts once."""
        return list(dict.fromkeys(told(message) for message in list(self.messages) if f"Call-ID: {call_id}\r\n".encode() in message[PAYLOAD]))


def chunks(packet):
    assert packet[:4] == b"HEP3" and struct.unpack("!H", packet[4:6])[0] == len(packet), "the head"
    found, at = {}, 6
    while at < len(packet):
        vendor, kind, length = struct.unpack("!HHH", packet[at : at + 6])
        assert vendor == 0 and length >= 6, "a chunk"
        found[kind] = packet[at + 6 : at + length]
        at += length
    return found


def told(message):
    address = lambda ip, port: (socket.inet_ntoa(message[ip]), struct.unpack("!H", message[port])[0])
    lines = message[PAYLOAD].decode().split("\r\n")
    cseq = next(line.split(":")[1].strip() for line in lines if line.startswith("CSeq:"))
    return address(SOURCE, SOURCE_PORT), address(DESTINATION, DESTINATION_PORT), f"{lines[0]}, {cseq}"
