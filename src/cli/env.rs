//! `dialtone env`: what a shell needs so that unmodified programs reach this server instead of Twilio.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::find_config;
use crate::config::Config;
use crate::ids::AccountSid;
use crate::tls::Authority;

#[derive(Args)]
pub struct Env {
    /// The configuration of the server; without it, the one of `dialtone dev` in this folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The account to act for; without it, the first of the configuration
    #[arg(long, value_name = "SID")]
    account: Option<AccountSid>,
}

impl Env {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let file = find_config(self.config.as_deref())?;
        let config = Config::load(&file).map_err(|error| error.to_string())?;
        let Some(proxy) = config.http.sdk_proxy else {
            return Err(format!(
                "{} has no [http] sdk_proxy: add one, such as sdk_proxy = \"127.0.0.1:4041\", and restart the server. Or \
                 change one line of the program: client.api.base_url = \"{1}\" (Python), client.api.baseUrl = \"{1}\" (Node)",
                file.display(),
                config.http.public_url
            ));
        };
        let accounts = config.directory.accounts();
        let account = match self.account {
            Some(sid) => config.directory.account(sid),
            None => accounts.min_by_key(|account| account.sid),
        };
        let account = account.ok_or_else(|| format!("{} has no such account", file.display()))?;
        let authority = Authority::load_or_make(&config.store.folder).map_err(|error| error.to_string())?;
        let full = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path).display().to_string();
        let proxy = format!("http://{proxy}");
        let mut text =
            "# eval \"$(dialtone env)\": unmodified programs of the Twilio SDKs reach this server from here.\n"
                .to_owned();
        for (name, value) in [
            ("TWILIO_ACCOUNT_SID", account.sid.to_string()),
            ("TWILIO_AUTH_TOKEN", account.auth_token.expose().to_owned()),
            // Python's requests goes by the one, the Node SDK by the other.
            ("HTTPS_PROXY", proxy.clone()),
            ("HTTP_PROXY", proxy),
            ("NO_PROXY", "localhost,127.0.0.1,::1".to_owned()),
            ("REQUESTS_CA_BUNDLE", full(authority.bundle())),
            ("NODE_EXTRA_CA_CERTS", full(authority.certificate())),
        ] {
            writeln!(text, "export {name}='{}'", value.replace('\'', r"'\''"))
                .expect("a string takes all that is written");
        }
        print!("{text}");
        Ok(ExitCode::SUCCESS)
    }
}
