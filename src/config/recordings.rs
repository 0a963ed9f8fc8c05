//! `[recordings]`: a folder of this server, or a bucket, and for how long.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::read::Reader;
use super::{ConfigError, Recordings, Store, file};
use crate::recordings::BucketSettings;

const DEFAULT_REGION: &str = "us-east-1";

impl Reader<'_> {
    pub(super) fn recordings(&self, written: &file::Recordings, store: &Store) -> Result<Recordings, ConfigError> {
        let bucket = match (&written.url, &written.folder) {
            (Some(_), Some(folder)) => {
                return Err(self.fault(folder, "`folder` and `url` exclude each other: keep one"));
            }
            (Some(url), None) => Some(self.bucket(url, written)?),
            (None, _) => {
                self.no_keys_of_a_bucket(written)?;
                None
            }
        };
        let folder = written.folder.as_ref().map(|folder| PathBuf::from(folder.get_ref()));
        // 0 is for ever, as to leave it out is.
        let days = written.keep_days.filter(|days| *days > 0);
        Ok(Recordings {
            folder: folder.unwrap_or_else(|| store.folder.join("recordings")),
            bucket,
            keep: days.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600)),
        })
    }

    fn bucket(&self, url: &Spanned<String>, written: &file::Recordings) -> Result<BucketSettings, ConfigError> {
        let (name, prefix) = bucket_and_prefix(url.get_ref()).ok_or_else(|| {
            let text = url.get_ref();
            self.fault(url, format!("wrong value of `url`: \"{text}\" is not s3://BUCKET or s3://BUCKET/PREFIX"))
        })?;
        let secret = |key: &str, secret: &Option<Spanned<String>>| match secret {
            Some(secret) => self.secret(secret, key),
            None => {
                Err(self.fault(url, format!("`{key}` is missing: `url` needs `access_key_id` and `secret_access_key`")))
            }
        };
        let region = written.region.as_ref().map(|region| self.region(region)).transpose()?;
        Ok(BucketSettings {
            name,
            prefix,
            endpoint: written.endpoint.as_ref().map(|url| self.endpoint_of_bucket(url, written)).transpose()?,
            region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            access_key_id: secret("access_key_id", &written.access_key_id)?,
            secret_access_key: secret("secret_access_key", &written.secret_access_key)?,
        })
    }

    fn region(&self, region: &Spanned<String>) -> Result<String, ConfigError> {
        let text = region.get_ref();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(
                self.fault(region, format!("wrong value of `region`: \"{text}\" is not a name such as eu-central-1"))
            );
        }
        Ok(text.clone())
    }

    fn endpoint_of_bucket(&self, url: &Spanned<String>, written: &file::Recordings) -> Result<String, ConfigError> {
        let text = self.http_url(url, "endpoint")?;
        if text.starts_with("http://") && !written.allow_http && !is_loopback(&text) {
            let message = "wrong value of `endpoint`: recordings would go over the network as they are: give an https url, \
                           or say allow_http = true";
            return Err(self.fault(url, message));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    fn no_keys_of_a_bucket(&self, written: &file::Recordings) -> Result<(), ConfigError> {
        let keys = [
            ("endpoint", &written.endpoint),
            ("region", &written.region),
            ("access_key_id", &written.access_key_id),
            ("secret_access_key", &written.secret_access_key),
        ];
        match keys.into_iter().find_map(|(key, value)| Some((key, value.as_ref()?))) {
            Some((key, value)) => Err(self
                .fault(value, format!("`{key}` says how to reach a bucket: `url` must name one, such as s3://BUCKET"))),
            None => Ok(()),
        }
    }
}

/// Takes `s3://BUCKET/PREFIX` apart; what a bucket may be called is S3's rule.
fn bucket_and_prefix(url: &str) -> Option<(String, String)> {
    let (name, prefix) = url.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let prefix = prefix.trim_end_matches('/');
    let is_right = (3..=63).contains(&name.len())
        && name.bytes().all(fits)
        && prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && (prefix.is_empty() || prefix.split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
    is_right.then(|| (name.to_owned(), prefix.to_owned()))
}

fn is_loopback(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
