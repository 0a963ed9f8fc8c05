//! `[http]`: where the API is served, and as whom.

use toml::Spanned;

use super::read::Reader;
use super::{Certificate, ConfigError, Http, Tls, file};
use crate::tls::Files;

const DEFAULT_LISTEN: &str = "127.0.0.1:4040";

impl Reader<'_> {
    pub(super) fn http(&self, http: &file::Http) -> Result<Http, ConfigError> {
        let listen = match &http.listen {
            Some(written) => self.parse(written, "listen", "IP:PORT")?,
            None => DEFAULT_LISTEN.parse().expect("the default is an address"),
        };
        let tls =
            http.tls.as_ref().map(|tls| Ok(Tls { certificate: self.certificate(tls)?, plain: tls.get_ref().plain }));
        let tls = tls.transpose()?;
        let public_url = match &http.public_url {
            Some(written) => self.http_url(written, "public_url")?.trim_end_matches('/').to_owned(),
            None if tls.as_ref().is_some_and(|tls| !tls.plain) => format!("https://{listen}"),
            None => format!("http://{listen}"),
        };
        let operator_token =
            http.operator_token.as_ref().map(|token| self.secret(token, "operator_token")).transpose()?;
        let metrics_listen =
            http.metrics_listen.as_ref().map(|address| self.parse(address, "metrics_listen", "IP:PORT")).transpose()?;
        let sdk_proxy =
            http.sdk_proxy.as_ref().map(|address| self.parse(address, "sdk_proxy", "IP:PORT")).transpose()?;
        Ok(Http {
            listen,
            tls,
            sdk_proxy,
            sdk_proxy_tunnels: http.sdk_proxy_tunnels,
            public_url,
            is_named: http.public_url.is_some(),
            allow_private_targets: http.allow_private_targets,
            operator_token: operator_token.unwrap_or_default(),
            metrics_listen,
        })
    }

    /// As whom we are.
    pub(super) fn certificate(&self, tls: &Spanned<file::Tls>) -> Result<Certificate, ConfigError> {
        let file::Tls { cert, key, own, .. } = tls.get_ref();
        match (cert, key, own) {
            (Some(cert), Some(key), false) => {
                let files = Files { certificate: cert.get_ref().into(), key: key.get_ref().into() };
                let read = files.load().map_err(|error| self.fault(cert, format!("wrong value of `tls`: {error}")));
                read.map(|_| Certificate::Files(files))
            }
            (None, None, true) => Ok(Certificate::Own),
            _ => {
                let message = "`tls` wants the paths of PEM files: { cert = \"PATH\", key = \"PATH\" }; or { own = true } for a \
                               certificate of this installation's own authority";
                Err(self.fault(tls, message))
            }
        }
    }

    pub(super) fn http_url(&self, written: &Spanned<String>, key: &str) -> Result<String, ConfigError> {
        let fault = || {
            self.fault(
                written,
                format!("wrong value of `{key}`: \"{}\" is not an http or https url", written.get_ref()),
            )
        };
        let url = url::Url::parse(written.get_ref()).map_err(|_| fault())?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(written.get_ref().clone())
        } else {
            Err(fault())
        }
    }
}
