//! Writing numbers and addresses into texts: what stands in every message, without the machinery of `format!`, which costs
//! several times as much.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// A text that is being put together.
#[derive(Default)]
pub struct Text(pub String);

impl Text {
    pub fn with_capacity(bytes: usize) -> Text {
        Text(String::with_capacity(bytes))
    }

    pub fn put(&mut self, text: &str) -> &mut Text {
        self.0.push_str(text);
        self
    }

    pub fn number(&mut self, number: impl Into<u64>) -> &mut Text {
        self.put(itoa::Buffer::new().format(number.into()))
    }

    /// The lowest `digits` hexadecimal digits.
    pub fn hex(&mut self, number: u64, digits: u32) -> &mut Text {
        for digit in (0..digits).rev() {
            self.0.push(char::from(b"0123456789abcdef"[(number >> (digit * 4)) as usize & 15]));
        }
        self
    }

    /// As in a URI's host: an IPv6 address without brackets.
    pub fn ip(&mut self, ip: IpAddr) -> &mut Text {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                self.number(a).put(".").number(b).put(".").number(c).put(".").number(d)
            }
            IpAddr::V6(ip) => {
                write!(self.0, "{ip}").expect("a string takes all that is written");
                self
            }
        }
    }

    /// `192.0.2.1:5060`, `[2001:db8::1]:5060`.
    pub fn socket(&mut self, address: SocketAddr) -> &mut Text {
        match address.ip() {
            ip @ IpAddr::V4(_) => self.ip(ip),
            ip @ IpAddr::V6(_) => self.put("[").ip(ip).put("]"),
        };
        self.put(":").number(address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_formatting_makes() {
        for address in ["0.0.0.0:0", "192.0.2.1:5060", "255.255.255.255:65535", "[::1]:1", "[2001:db8::192.0.2.1]:5060"]
        {
            let address: SocketAddr = address.parse().unwrap();
            let mut text = Text::default();
            text.socket(address)
                .put(" ")
                .ip(address.ip())
                .put(" ")
                .hex(0x0123_4567_89ab_cdef, 16)
                .put(" ")
                .hex(0xfab, 3);
            let formatted = format!("{address} {} {:016x} {:03x}", address.ip(), 0x0123_4567_89ab_cdefu64, 0xfab);
            assert_eq!(text.0, formatted);
        }
    }
}
