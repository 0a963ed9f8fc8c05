//! Datagrams, many by one system call.
//!
//! One call that does not fill its places says as well that nothing is left: a call more, only to hear that, is saved at every
//! wake-up.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

/// Taken at once.
pub(super) const PLACES: usize = 8;
/// The longest datagram.
const LONGEST: usize = 65_536;

/// Room for what arrives.
pub(super) struct Datagrams {
    buffers: Box<[[u8; LONGEST]; PLACES]>,
    arrived: Vec<(usize, Option<SocketAddr>)>,
}

impl Datagrams {
    pub(super) fn new() -> Datagrams {
        let buffers = vec![[0; LONGEST]; PLACES].into_boxed_slice();
        let buffers = buffers.try_into().unwrap_or_else(|_| unreachable!("it has as many places"));
        Datagrams { buffers, arrived: Vec::with_capacity(PLACES) }
    }

    /// Takes what a socket has, up to [`PLACES`]; `WouldBlock` where that is nothing.
    pub(super) fn take(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.arrived.clear();
        let mut sources = [const { MaybeUninit::<SockAddrStorage>::zeroed() }; PLACES];
        let mut places: [libc::iovec; PLACES] =
            std::array::from_fn(|at| libc::iovec { iov_base: self.buffers[at].as_mut_ptr().cast(), iov_len: LONGEST });
        let mut headers: [libc::mmsghdr; PLACES] = std::array::from_fn(|at| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: sources[at].as_mut_ptr().cast(),
                msg_namelen: size_of::<SockAddrStorage>() as libc::socklen_t,
                msg_iov: &raw mut places[at],
                msg_iovlen: 1,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            msg_len: 0,
        });
        // SAFETY: every header names a place and a source that live, and do not move, until the call returns; their lengths
        // are those of what they name.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                PLACES as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, source) in headers.iter().zip(sources).take(count) {
            // SAFETY: the kernel has written an address of that length; what it has not written is zero.
            let source = unsafe { SockAddr::new(source.assume_init(), header.msg_hdr.msg_namelen) };
            self.arrived.push((header.msg_len as usize, source.as_socket()));
        }
        Ok(count)
    }

    /// What was taken last, each with its source.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let arrived = self.arrived.iter().zip(self.buffers.iter());
        arrived.filter_map(|((length, source), buffer)| Some(((*source)?, &buffer[..*length])))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_come_in_order_with_their_sources_until_none_is_left() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (socket, peer) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            let mut datagrams = Datagrams::new();
            assert_eq!(datagrams.take(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let sent: Vec<Vec<u8>> = (0..PLACES + 3).map(|number| vec![number as u8; number * 500]).collect();
            for bytes in &sent {
                peer.send_to(bytes, socket.local_addr().unwrap()).unwrap();
            }
            let mut got = Vec::new();
            for wanted in [PLACES, 3] {
                assert_eq!(datagrams.take(&socket).unwrap(), wanted);
                got.extend(datagrams.iter().map(|(source, bytes)| {
                    assert_eq!(source, peer.local_addr().unwrap());
                    bytes.to_vec()
                }));
            }
            assert_eq!(got, sent);
            assert!(datagrams.take(&socket).is_err() && datagrams.iter().count() == 0);
        }
    }
}
