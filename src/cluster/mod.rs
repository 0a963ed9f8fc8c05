//! Who belongs to this cluster: its authority, the certificates of its nodes, and how a machine is admitted.
//!
//! A certificate names a role and a node (`spiffe://dialtone/worker/NAME`), and that is all its rights: only an edge opens
//! sessions, only a worker is given any. A machine gets its certificate once, for a token that whoever holds the
//! authority's folder has made; the token also says which authority the machine is to believe.

mod authority;
mod identity;
pub mod join;
mod token;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use authority::Authority;
pub use identity::{EDGE_NAME, Identity, Peer};
pub use join::{Admission, Through, admit, are_one_machine, join as join_cluster, peer};
pub use token::{JoinToken, TokenError};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Edge,
    Worker,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Edge => "edge",
            Role::Worker => "worker",
        }
    }

    pub fn named(name: &str) -> Option<Role> {
        [Role::Edge, Role::Worker].into_iter().find(|role| role.name() == name)
    }
}

/// Why there is no authority, no certificate, or no place in the cluster.
#[derive(Debug)]
pub enum ClusterError {
    File(PathBuf, io::Error),
    /// There is an authority in the folder already.
    Exists(PathBuf),
    /// There is none.
    Missing(PathBuf),
    Certificate(rcgen::Error),
    Tls(rustls::Error),
    /// What is in the file is no identity of ours.
    Malformed(PathBuf),
    Token(TokenError),
    /// The edge cannot be reached, or is not of the token's cluster.
    Unreachable(String),
    /// The edge says no.
    Refused(String),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterError::File(path, error) => write!(f, "{}: {error}", path.display()),
            ClusterError::Exists(folder) => write!(
                f,
                "{} holds a cluster's authority already; its nodes would be strangers to a new one, so remove the folder first if that is what you want",
                folder.display()
            ),
            ClusterError::Missing(folder) => write!(
                f,
                "{} holds no cluster's authority; make one with `dialtone cluster init --dir {}`",
                folder.display(),
                folder.display()
            ),
            ClusterError::Certificate(error) => write!(f, "certificate: {error}"),
            ClusterError::Tls(error) => write!(f, "tls: {error}"),
            ClusterError::Malformed(path) => {
                write!(f, "{} is no identity of a node; remove it and join again", path.display())
            }
            ClusterError::Token(error) => error.fmt(f),
            ClusterError::Unreachable(text) | ClusterError::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ClusterError {}

impl From<rcgen::Error> for ClusterError {
    fn from(error: rcgen::Error) -> ClusterError {
        ClusterError::Certificate(error)
    }
}

impl From<rustls::Error> for ClusterError {
    fn from(error: rustls::Error) -> ClusterError {
        ClusterError::Tls(error)
    }
}

impl From<TokenError> for ClusterError {
    fn from(error: TokenError) -> ClusterError {
        ClusterError::Token(error)
    }
}

#[cfg(test)]
mod tests;
