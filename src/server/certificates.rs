//! As whom this server's listeners are: what is made of the certificates that the configuration names.

use std::sync::Arc;

use dialtone_sip::transport::Security;

use super::StartError;
use crate::config::{Certificate, Config};
use crate::tls::{self, Authority, Identity};

/// What listeners are given.
pub(super) struct Certificates {
    /// This installation's own authority, where anything needs it.
    pub authority: Option<Arc<Authority>>,
    /// Of HTTPS.
    pub http: Option<Identity>,
    sip: Option<Identity>,
    /// TLS of SIP's connections.
    pub security: Option<Arc<dyn Security>>,
}

impl Certificates {
    /// Reads files, or makes what is to be made.
    pub fn get(config: &Config) -> Result<Certificates, StartError> {
        let needs_authority = config.http.sdk_proxy.is_some() || config.has_own_certificate();
        let authority = needs_authority.then(|| Authority::load_or_make(&config.store.folder)).transpose();
        let authority = authority.map_err(StartError::Authority)?.map(Arc::new);
        let identity = |certificate: Option<&Certificate>| match (certificate, &authority) {
            (Some(Certificate::Files(files)), _) => {
                Identity::of_files(files.clone()).map(Some).map_err(StartError::Tls)
            }
            (Some(Certificate::Own), Some(authority)) => Ok(Some(Identity::Own(authority.clone()))),
            _ => Ok(None),
        };
        let http = identity(config.http.tls.as_ref().map(|tls| &tls.certificate))?;
        let sip = identity(config.sip.tls.as_ref().map(|tls| &tls.certificate))?;
        let security = match (&sip, &config.sip.tls) {
            (Some(identity), Some(settings)) => {
                let roots = tls::authorities(settings.authorities.as_deref()).map_err(StartError::Tls)?;
                Some(Arc::new(tls::SipSecurity::new(identity.clone(), roots)) as Arc<dyn Security>)
            }
            _ => None,
        };
        Ok(Certificates { authority, http, sip, security })
    }

    /// Reads the files again. A pair that does not fit changes nothing.
    pub fn reload(&self) {
        for error in self.http.iter().chain(&self.sip).filter_map(|identity| identity.reload().err()) {
            tracing::error!(%error, "the certificate stays that was");
        }
    }
}
