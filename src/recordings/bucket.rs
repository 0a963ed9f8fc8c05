//! Storage of the S3 protocol: one object for each recording, its WAV file, under the name that it has in the folder.
//!
//! What changes something is tried once; who asks says whether it is tried again. Whether the storage answers is kept here and told
//! once when it changes, so that nobody else logs it.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::http::Connector;
use super::{ArchiveError, Form};
use crate::ids::RecordingSid;
use crate::secret::Secret;

/// Which bucket, where, and who may use it.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    pub name: String,
    /// What the names of objects begin with, without slashes around it; may be empty.
    pub prefix: String,
    /// An http or https URL; `None`: AWS in that region.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
}

/// Why a request to the bucket came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketError {
    /// There is no such object.
    NotFound,
    /// The storage is away or refuses us. The log has said why.
    Away,
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BucketError::NotFound => "there is no such object",
            BucketError::Away => "the storage of recordings does not answer",
        })
    }
}

impl Error for BucketError {}

/// A bucket; clones share its connections.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    storage: Arc<AmazonS3>,
    prefix: Path,
    /// For each [`Op`] whether it failed last.
    is_away: Arc<[AtomicBool; 3]>,
}

/// What is asked of the storage. It may refuse one and allow another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Upload,
    Download,
    Delete,
}

impl Op {
    fn as_str(self) -> &'static str {
        match self {
            Op::Upload => "upload",
            Op::Download => "download",
            Op::Delete => "delete",
        }
    }
}

/// The least that S3 takes as a part of an object. What is shorter goes in one request; of what is longer, a part at a time
/// is held in memory.
const PART_BYTES: usize = 5 << 20;

type Cause = Box<dyn Error + Send + Sync>;

/// Why a file is not stored.
enum Unsent {
    /// It cannot be read.
    File(std::io::Error),
    Refused(Cause),
}

impl From<object_store::Error> for Unsent {
    fn from(error: object_store::Error) -> Unsent {
        Unsent::Refused(error.into())
    }
}

impl Bucket {
    /// Asks nobody yet.
    ///
    /// # Panics
    /// Where the prefix is no path or the endpoint no URL, which the configuration has looked at.
    pub fn new(settings: &BucketSettings) -> Bucket {
        let plain = settings.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.name)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key_id.expose())
            .with_secret_access_key(settings.secret_access_key.expose())
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            // Not every storage knows a deletion of many.
            .with_disable_bulk_delete(true)
            .with_http_connector(Connector { plain });
        let builder = match &settings.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint).with_allow_http(plain),
            None => builder,
        };
        let storage = builder.build().expect("name, region and credentials are there, and so is a way to send");
        let prefix = Path::parse(&settings.prefix).expect("the prefix is a path");
        Bucket { storage: Arc::new(storage), prefix, is_away: Arc::default() }
    }

    fn path(&self, sid: RecordingSid) -> Path {
        self.prefix.clone().join(format!("{sid}{}", Form::Wav.suffix()))
    }

    /// Stores a file, in the place of what may be there. It is stored when this says so, and the storage says how long it is.
    ///
    /// # Errors
    /// Also of the file, which are nothing of the storage's.
    pub async fn put(&self, sid: RecordingSid, mut file: File) -> Result<(), ArchiveError> {
        let path = self.path(sid);
        let stored = async {
            let bytes = self.send(&path, &mut file).await?;
            let there = self.storage.head(&path).await?.size;
            if there == bytes {
                Ok(())
            } else {
                Err(Unsent::Refused(format!("{there} of {bytes} bytes are stored").into()))
            }
        };
        match stored.await {
            Err(Unsent::File(error)) => Err(ArchiveError::Io(error)),
            Err(Unsent::Refused(cause)) => Ok(self.told(Op::Upload, Err::<(), Cause>(cause))?),
            Ok(()) => Ok(self.told(Op::Upload, Ok::<(), Cause>(()))?),
        }
    }

    /// In one request, or in parts. Gives the bytes that were sent.
    async fn send(&self, path: &Path, file: &mut File) -> Result<u64, Unsent> {
        let mut part = next_part(file).await.map_err(Unsent::File)?;
        let mut bytes = part.len() as u64;
        if part.len() < PART_BYTES {
            self.storage.put(path, part.into()).await?;
            return Ok(bytes);
        }
        let mut upload = self.storage.put_multipart(path).await?;
        let sent: Result<u64, Unsent> = async {
            while !part.is_empty() {
                upload.put_part(std::mem::take(&mut part).into()).await?;
                part = next_part(file).await.map_err(Unsent::File)?;
                bytes += part.len() as u64;
            }
            upload.complete().await?;
            Ok(bytes)
        }
        .await;
        if sent.is_err() {
            // Parts that are left cost money; where the storage is away they stay.
            let _ = upload.abort().await;
        }
        sent
    }

    /// How long an object is, in bytes.
    pub async fn bytes(&self, sid: RecordingSid) -> Result<u64, BucketError> {
        let found = self.get(sid, GetOptions { head: true, ..GetOptions::default() }).await?;
        Ok(found.meta.size)
    }

    /// What is in it, and how long that is: all of it, or a part that is there.
    pub async fn read(&self, sid: RecordingSid, part: Option<Range<u64>>) -> Result<(u64, Body), BucketError> {
        let range = part.map(GetRange::Bounded);
        let found = self.get(sid, GetOptions { range, ..GetOptions::default() }).await?;
        Ok((found.range.end - found.range.start, Body::from_stream(found.into_stream())))
    }

    /// Asks again, once: a kept connection may break under a request because it was idle.
    async fn get(&self, sid: RecordingSid, options: GetOptions) -> Result<GetResult, BucketError> {
        let path = self.path(sid);
        let mut found = self.storage.get_opts(&path, options.clone()).await;
        if matches!(found, Err(object_store::Error::Generic { .. }))
            && !self.is_away(Op::Download).load(Ordering::Relaxed)
        {
            found = self.storage.get_opts(&path, options).await;
        }
        self.told(Op::Download, found)
    }

    /// Deletes it; what is not there is no error.
    pub async fn delete(&self, sid: RecordingSid) -> Result<(), BucketError> {
        match self.told(Op::Delete, self.storage.delete(&self.path(sid)).await) {
            Err(BucketError::NotFound) => Ok(()),
            deleted => deleted,
        }
    }

    fn is_away(&self, op: Op) -> &AtomicBool {
        &self.is_away[op as usize]
    }

    /// Counts it, and logs when the storage is away for it, and when it is there again.
    fn told<T, E: Into<Cause>>(&self, op: Op, result: Result<T, E>) -> Result<T, BucketError> {
        let (result, is_away) = (result.map_err(|error| Fault::of(error.into(), op)), self.is_away(op));
        let op = op.as_str();
        let outcome = if matches!(result, Err(Fault::Away { .. })) { "error" } else { "ok" };
        metrics::counter!("dialtone_recording_storage_requests_total", "op" => op, "outcome" => outcome).increment(1);
        match result {
            Err(Fault::Away { reason, advice }) => {
                if !is_away.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        op,
                        reason,
                        "the storage of recordings fails: what is complete stays in the folder and is served from there, and is tried again until it is stored; {advice}"
                    );
                }
                Err(BucketError::Away)
            }
            answered => {
                if is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!(op, "the storage of recordings answers again");
                }
                answered.map_err(|_| BucketError::NotFound)
            }
        }
    }
}

/// Empty at the end of the file.
async fn next_part(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(PART_BYTES as u64).read_to_end(&mut part).await?;
    Ok(part)
}

/// What an error of the library means.
enum Fault {
    NotFound,
    Away { reason: String, advice: &'static str },
}

impl Fault {
    fn of(error: Cause, op: Op) -> Fault {
        use object_store::Error as Known;
        let mut cause: &(dyn Error + 'static) = error.as_ref();
        let mut advice = "see that [recordings] endpoint can be reached";
        loop {
            match cause.downcast_ref::<Known>() {
                Some(Known::NotFound { .. }) if op != Op::Upload => return Fault::NotFound,
                // To what is put, not found is the bucket.
                Some(Known::NotFound { .. }) => advice = "see that the bucket of [recordings] url exists",
                Some(Known::PermissionDenied { .. } | Known::Unauthenticated { .. }) => {
                    advice = "see that [recordings] access_key_id and secret_access_key are right, and may read, write and delete in the bucket";
                }
                _ => {}
            }
            // An I/O error hides what it was made of from `source`.
            let hidden = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            match hidden.map(|hidden| hidden as &(dyn Error + 'static)).or_else(|| cause.source()) {
                Some(inner) => cause = inner,
                None => return Fault::Away { reason: without_body(&cause.to_string()), advice },
            }
        }
    }
}

/// The text without the document that the storage may have answered, but for its `Code`: there are keys in it.
fn without_body(text: &str) -> String {
    let (head, body) = text.split_once('<').unwrap_or((text, ""));
    let head = head.trim_end_matches([' ', ':', '\n']);
    match body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")) {
        Some((code, _)) => format!("{head}: {code}"),
        None => head.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_has_the_code_of_the_answer_and_none_of_its_keys() {
        let answer = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>\
                      SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>";
        let reason = without_body(answer);
        assert_eq!(reason, "Server returned non-2xx status code: 403 Forbidden: SignatureDoesNotMatch");
        assert_eq!(without_body("Connection refused (os error 111)"), "Connection refused (os error 111)");
        assert_eq!(without_body("status code: 502: <html>AKIA1</html>"), "status code: 502");
    }

    #[test]
    fn cause_is_found_however_deep_it_is_hidden() {
        let refused = std::io::Error::from_raw_os_error(111);
        let known = object_store::Error::Generic { store: "S3", source: Box::new(refused) };
        let Fault::Away { reason, advice } = Fault::of(std::io::Error::other(known).into(), Op::Download) else {
            panic!("away");
        };
        assert_eq!((reason.as_str(), advice.contains("endpoint")), ("Connection refused (os error 111)", true));
        let missing = || object_store::Error::NotFound { path: "p".into(), source: "gone".into() };
        assert!(matches!(Fault::of(missing().into(), Op::Delete), Fault::NotFound));
        assert!(
            matches!(Fault::of(missing().into(), Op::Upload), Fault::Away { advice, .. } if advice.contains("bucket"))
        );
    }
}
