//! Tells the service manager how this process is (sd_notify(3)): one datagram for each change, to the socket that
//! `NOTIFY_SOCKET` names. Without that nobody asks. Gives it the listeners to hold, too (sd_pid_notify_with_fds(3)): it gives them to
//! the next process as it gives sockets that it has opened itself (sd_listen_fds(3)).

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const ENVIRONMENT: &str = "NOTIFY_SOCKET";
/// The first descriptor that a service manager gives.
const FIRST: i32 = 3;

/// Calls are taken.
pub(super) fn ready() {
    tell("READY=1");
}

/// It drains, and will end.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Has a listener of that name held, for the process after this one.
pub(super) fn hold(name: &str, listener: BorrowedFd<'_>) {
    // A name has no colons there.
    tell_with(&format!("FDSTORE=1\nFDNAME={}", URL_SAFE_NO_PAD.encode(name)), Some(listener));
}

/// What the process before this one had held, by name. To be called once, before anything else is opened.
pub(super) fn held() -> HashMap<String, OwnedFd> {
    let number = |variable| std::env::var(variable).ok()?.parse::<i32>().ok();
    let is_ours = number("LISTEN_PID") == Some(std::process::id().cast_signed());
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let given = (FIRST..FIRST + count).zip(names.split(':')).filter_map(|(descriptor, name)| {
        // SAFETY: the service manager gives these descriptors to this process, and nobody else takes them.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).ok()?;
        Some((String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?, descriptor))
    });
    given.collect()
}

fn tell(state: &str) {
    tell_with(state, None);
}

fn tell_with(state: &str, beside: Option<BorrowedFd<'_>>) {
    let Ok(name) = std::env::var(ENVIRONMENT) else { return };
    if let Err(error) = send(&name, state, beside) {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

fn send(name: &str, state: &str, beside: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let beside: Vec<BorrowedFd<'_>> = beside.into_iter().collect();
    if !beside.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&beside));
    }
    sendmsg(&socket, &[IoSlice::new(state.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
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
        send(path.to_str().unwrap(), "READY=1", None).unwrap();
        send(&format!("@{name}"), "STOPPING=1", None).unwrap();
        let mut buffer = [0; 64];
        for (socket, state) in [(by_path, "READY=1"), (by_name, "STOPPING=1")] {
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], state.as_bytes());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
