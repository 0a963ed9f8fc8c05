//! Tells the service manager how this process is (sd_notify(3)): one datagram for each change, to the socket that
//! `NOTIFY_SOCKET` names. Without that nobody asks.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const ENVIRONMENT: &str = "NOTIFY_SOCKET";

/// Calls are taken.
pub(super) fn ready() {
    tell("READY=1");
}

/// It drains, and will end.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Ok(name) = std::env::var(ENVIRONMENT) else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

fn send(name: &str, state: &str) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_arrives_by_path_and_by_abstract_name() {
        let path = std::env::temp_dir().join(format!("dialtone-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("dialtone-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        send(&format!("@{name}"), "STOPPING=1").unwrap();
        let mut buffer = [0; 64];
        for (socket, state) in [(by_path, "READY=1"), (by_name, "STOPPING=1")] {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], state.as_bytes());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
