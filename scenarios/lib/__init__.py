"""What the scenarios share: running programs, a server, SIP, RTP and an application."""
