//! Why a request to a customer's server came to nothing, with Twilio's numbers.

use std::fmt;
use std::net::IpAddr;

use crate::app::destination::Masked;

/// A request that failed for good: all tries are spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFailure {
    pub cause: FetchError,
    /// What was asked for last, without the password that may be in it.
    pub url: String,
}

/// What went wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchError {
    /// No absolute `http` or `https` URL.
    InvalidUrl,
    /// The host's name has no address.
    UnknownHost,
    /// The host has an address that is not public, and nothing allows it.
    ForbiddenAddress(IpAddr),
    /// No connection: refused, unreachable, reset.
    ConnectFailed,
    ConnectTimeout,
    /// The host failed so often that it is given a rest; nothing was sent.
    CircuitOpen,
    /// Too many requests of this account to this host wait already; nothing was sent.
    TooManyWaiting,
    TlsFailed,
    TlsNameMismatch,
    TlsExpired,
    TlsUntrusted,
    /// What came is no HTTP, or its head is much larger than 64 kB.
    Protocol,
    /// The connection broke before the response was complete.
    Broken,
    /// A connection that was kept from an earlier request broke before anything came: most likely the server had closed
    /// it while it was idle. Tried again as if there had been no connection.
    IdleClosed,
    /// No response began in time.
    ReadTimeout,
    /// All tries together took too long.
    TotalTimeout,
    /// A status that is no success.
    Status(u16),
    TooManyRedirects,
    TooLarge {
        limit_bytes: usize,
    },
    /// What came is nothing that can be played.
    NoAudio,
    /// It plays longer than an hour.
    AudioTooLong,
}

impl FetchFailure {
    pub fn new(cause: FetchError, url: &str) -> Self {
        Self { cause, url: Masked(url).to_string() }
    }

    /// Twilio's number.
    pub const fn code(&self) -> u32 {
        self.cause.code()
    }

    /// For a person.
    pub fn text(&self) -> String {
        self.cause.to_string()
    }
}

impl FetchError {
    /// Twilio's number.
    pub const fn code(self) -> u32 {
        match self {
            Self::InvalidUrl => 11100,
            Self::Broken | Self::IdleClosed | Self::ReadTimeout | Self::TotalTimeout | Self::Status(_) => 11200,
            Self::ForbiddenAddress(_)
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::CircuitOpen
            | Self::TooManyWaiting => 11205,
            Self::Protocol => 11206,
            Self::UnknownHost => 11210,
            Self::TooManyRedirects => 11215,
            Self::TlsFailed => 11220,
            Self::TlsNameMismatch => 11235,
            Self::TlsExpired => 11236,
            Self::TlsUntrusted => 11237,
            Self::TooLarge { .. } => 11750,
            Self::NoAudio | Self::AudioTooLong => 12300,
        }
    }

    /// The `outcome` label of the metrics: a closed set.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::UnknownHost => "unknown_host",
            Self::ForbiddenAddress(_) => "forbidden_address",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::CircuitOpen => "circuit_open",
            Self::TooManyWaiting => "too_many_waiting",
            Self::TlsFailed | Self::TlsNameMismatch | Self::TlsExpired | Self::TlsUntrusted => "tls_failed",
            Self::Protocol => "protocol",
            Self::Broken | Self::IdleClosed => "broken",
            Self::ReadTimeout => "read_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Status(500..) => "status_5xx",
            Self::Status(400..) => "status_4xx",
            Self::Status(_) => "status_other",
            Self::TooManyRedirects => "too_many_redirects",
            Self::TooLarge { .. } => "too_large",
            Self::NoAudio => "no_audio",
            Self::AudioTooLong => "audio_too_long",
        }
    }

    /// The connection stood, whatever came over it then.
    pub const fn was_connected(self) -> bool {
        matches!(self, Self::Protocol | Self::Broken | Self::IdleClosed | Self::ReadTimeout | Self::Status(_))
    }

    /// The connection never stood.
    pub const fn is_connect(self) -> bool {
        matches!(
            self,
            Self::UnknownHost
                | Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::TlsFailed
                | Self::TlsNameMismatch
                | Self::TlsExpired
                | Self::TlsUntrusted
        )
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::InvalidUrl => "no absolute http or https url",
            Self::UnknownHost => "host name has no address",
            Self::ForbiddenAddress(address) => {
                return write!(f, "address {address} is not public: see allow_private_targets and allowed_targets");
            }
            Self::ConnectFailed => "connection refused or unreachable",
            Self::ConnectTimeout => "no connection in time",
            Self::CircuitOpen => "host failed too often in a row and is given a rest",
            Self::TooManyWaiting => "too many requests to this host are waiting",
            Self::TlsFailed => "tls handshake failed",
            Self::TlsNameMismatch => "tls certificate is for another name",
            Self::TlsExpired => "tls certificate has expired or is not valid yet",
            Self::TlsUntrusted => "tls certificate has no path to a trusted root",
            Self::Protocol => "response is no http, or its head is too large",
            Self::Broken | Self::IdleClosed => "connection closed before the response was complete",
            Self::ReadTimeout => "no response in time",
            Self::TotalTimeout => "no complete response in time",
            Self::Status(status) => return write!(f, "response status {status}"),
            Self::TooManyRedirects => "more than 10 redirects",
            Self::TooLarge { limit_bytes } => return write!(f, "response larger than {limit_bytes} bytes"),
            Self::NoAudio => "response is no audio that can be played",
            Self::AudioTooLong => "audio longer than an hour",
        };
        f.write_str(text)
    }
}

impl std::error::Error for FetchError {}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause, self.url)
    }
}

impl std::error::Error for FetchFailure {}
