use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

/// A folder of its own, with `cert.pem` and `key.pem` for that name.
fn made(case: &str, name: &str) -> Files {
    let folder = std::env::temp_dir().join(format!("dialtone-tls-{case}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let files = Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    write(&files, name);
    files
}

fn write(files: &Files, name: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(&files.certificate, certificate.pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
}

/// Who says what over a connection that trusts that certificate alone.
async fn asks(address: std::net::SocketAddr, trusted: &PathBuf, name: &str) -> io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"ping").await?;
    let mut heard = vec![0; 4];
    stream.read_exact(&mut heard).await?;
    Ok(heard)
}

/// Says back what it hears, once for each connection.
async fn echoing(identity: Identity) -> std::net::SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut listener = Listener::new(tcp, identity, false).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = axum::serve::Listener::accept(&mut listener).await;
            tokio::spawn(async move {
                let mut heard = [0; 4];
                stream.read_exact(&mut heard).await?;
                stream.write_all(&heard).await
            });
        }
    });
    address
}

#[tokio::test]
async fn files_are_read_again_and_bad_ones_change_nothing() {
    let files = made("reload", "one.example");
    let identity = Identity::of_files(files.clone()).unwrap();
    let address = echoing(identity.clone()).await;
    assert_eq!(asks(address, &files.certificate, "one.example").await.unwrap(), b"ping");
    let first = fs::read(&files.certificate).unwrap();
    let kept = files.certificate.with_file_name("first.pem");
    fs::write(&kept, &first).unwrap();
    write(&files, "two.example");
    assert!(asks(address, &files.certificate, "two.example").await.is_err(), "nothing was read yet");
    identity.reload().unwrap();
    assert_eq!(asks(address, &files.certificate, "two.example").await.unwrap(), b"ping");
    assert!(asks(address, &kept, "one.example").await.is_err());
    let good = fs::read(&files.certificate).unwrap();
    fs::write(&files.certificate, &first).unwrap();
    let error = identity.reload().unwrap_err().to_string();
    assert!(error.contains("cert.pem and") && error.contains("do not serve together"), "{error}");
    fs::write(&files.certificate, good).unwrap();
    assert_eq!(asks(address, &files.certificate, "two.example").await.unwrap(), b"ping");
    fs::remove_dir_all(files.key.parent().unwrap()).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_not_what_is_in_it() {
    let files = made("faults", "one.example");
    let fault = |files: &Files| files.load().unwrap_err().to_string();
    let missing = Files { key: files.key.with_file_name("none.pem"), ..files.clone() };
    assert!(fault(&missing).contains("none.pem cannot be read: No such file"), "{}", fault(&missing));
    let swapped = Files { certificate: files.key.clone(), key: files.certificate.clone() };
    assert!(fault(&swapped).ends_with("key.pem holds no certificate in PEM"), "{}", fault(&swapped));
    let no_key = Files { key: files.certificate.clone(), ..files.clone() };
    assert!(fault(&no_key).ends_with("cert.pem holds no private key in PEM"), "{}", fault(&no_key));
    fs::remove_dir_all(files.key.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn own_certificate_is_for_whatever_name_or_address_is_asked_for() {
    let folder = std::env::temp_dir().join(format!("dialtone-tls-own-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let authority = Arc::new(Authority::load_or_make(&folder).unwrap());
    let address = echoing(Identity::Own(authority.clone())).await;
    for name in ["localhost", "phones.example", "127.0.0.1"] {
        assert_eq!(asks(address, &authority.certificate(), name).await.unwrap(), b"ping", "{name}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// A connection that says nothing, or never ends its handshake, keeps nobody else from being heard.
#[tokio::test]
async fn threat_08_silent_connections_hold_up_nobody() {
    let files = made("silent", "one.example");
    let address = echoing(Identity::of_files(files.clone()).unwrap()).await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    let asked = asks(address, &files.certificate, "one.example");
    let heard = tokio::time::timeout(Duration::from_secs(5), asked).await.expect("it is not held up");
    assert_eq!(heard.unwrap(), b"ping");
    fs::remove_dir_all(files.key.parent().unwrap()).unwrap();
}
