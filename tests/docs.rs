//! The documents: every TOML example in them is a configuration that is accepted, and says what its page says.

use std::fs;
use std::path::Path;

use dialtone::config::{Certificate, Config, SipTls, Tls};
use dialtone_sip::flow::Transport;

fn toml_blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_refused(text: &str, message: &str) {
    let error = Config::parse(text, "f.toml").expect_err(text).to_string();
    assert!(error.starts_with(message), "{text}\ngave {error}");
}

#[test]
fn whole_example_of_the_configuration_page_is_accepted() {
    let blocks = toml_blocks("docs/configuration.md");
    let whole = blocks.last().expect("the whole example");
    let config = Config::parse(whole, "docs/configuration.md").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.sip.realm, "example");
    assert_eq!((config.sip.listen.len(), config.sip.name_servers.len()), (2, 1));
    assert_eq!(config.server.drain_timeout.as_secs(), 90);
    assert_eq!(config.directory.accounts().count(), 1);
}

#[test]
fn readme_example_is_accepted() {
    let folder = std::env::temp_dir().join(format!("dialtone-docs-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let secret = folder.join("secret");
    fs::write(&secret, "s3cret\n").unwrap();
    let blocks = toml_blocks("README.md");
    assert_eq!(blocks.len(), 1);
    // The example's secrets lie in files and variables of its reader's machine.
    let written = blocks[0]
        .replace("/etc/dialtone/token", secret.to_str().unwrap())
        .replace("/etc/dialtone/desk", secret.to_str().unwrap());
    let written = written.replace("${DIALTONE_OPERATOR_TOKEN}", "operator").replace("${CARRIER_PASSWORD}", "carrier");
    let config = Config::parse(&written, "README.md").unwrap_or_else(|error| panic!("{error}"));
    let account = config.directory.accounts().next().unwrap();
    assert_eq!(account.auth_token.expose(), "s3cret", "without the line end");
    assert!(!format!("{account:?}").contains("s3cret"));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn store_is_a_file_or_a_server_whose_password_is_not_shown() {
    let read = |store: &str| {
        let text = format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n[store]\n{store}\n");
        Config::parse(&text, "f.toml").unwrap().store
    };
    assert_eq!(read("url = \"sqlite:///var/lib/d/d.db\"").folder, Path::new("/var/lib/d"));
    assert_eq!(read("url = \"sqlite://d.db\"").folder, Path::new("."));
    let store = read("url = \"postgres://me:s3cret@db.example/dialtone\"\nfolder = \"/var/lib/d\"");
    assert_eq!(
        (store.url.expose(), store.folder.as_path()),
        ("postgres://me:s3cret@db.example/dialtone", Path::new("/var/lib/d"))
    );
    assert!(!format!("{store:?}").contains("s3cret"));
}

#[test]
fn recordings_are_in_a_folder_or_in_a_bucket_whose_secret_is_not_shown() {
    let read = |recordings: &str| {
        let text = format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n[recordings]\n{recordings}\n");
        Config::parse(&text, "f.toml").unwrap_or_else(|error| panic!("{error}")).recordings
    };
    let folder = read("folder = \"/srv/audio\"");
    assert_eq!((folder.folder.as_path(), folder.bucket.is_none()), (Path::new("/srv/audio"), true));
    let keys = "access_key_id = \"AKIA1\"\nsecret_access_key = \"s3cret\"";
    let far = read(&format!("url = \"s3://audio/of/calls/\"\n{keys}"));
    assert_eq!(far.folder, Path::new("./recordings"), "where they are until they are complete");
    assert!(!format!("{far:?}").contains("s3cret") && !format!("{far:?}").contains("AKIA1"));
    let bucket = far.bucket.unwrap();
    assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), ("audio", "of/calls"));
    assert_eq!((bucket.region.as_str(), bucket.endpoint), ("us-east-1", None));
    assert_eq!((bucket.access_key_id.expose(), bucket.secret_access_key.expose()), ("AKIA1", "s3cret"));
    for (more, endpoint) in [
        ("endpoint = \"https://s3.example.com/\"", "https://s3.example.com"),
        ("endpoint = \"http://127.0.0.1:9000\"", "http://127.0.0.1:9000"),
        ("endpoint = \"http://[::1]:9000\"", "http://[::1]:9000"),
        ("endpoint = \"http://localhost:9000\"", "http://localhost:9000"),
        ("endpoint = \"http://s3.internal\"\nallow_http = true", "http://s3.internal"),
    ] {
        let bucket = read(&format!("url = \"s3://audio\"\n{keys}\nregion = \"eu-central-1\"\n{more}")).bucket.unwrap();
        assert_eq!((bucket.endpoint.as_deref(), bucket.prefix.as_str()), (Some(endpoint), ""));
        assert_eq!(bucket.region, "eu-central-1");
    }
}

#[test]
fn edges_of_the_documentation_share_what_it_says() {
    let blocks = toml_blocks("docs/cluster.md");
    let shared = blocks.iter().find(|block| block.contains("hot =")).expect("several edges");
    let config = Config::parse(&format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n{shared}"), "f.toml").unwrap();
    assert_eq!(config.store.hot.as_ref().map(|url| url.expose()), Some("redis://10.0.0.9:6379"));
    assert!(!format!("{:?}", config.store).contains("SECRET"));
    let cluster = config.cluster.expect("where the others find it");
    assert_eq!((cluster.listen.to_string().as_str(), cluster.dir, cluster.contact), ("10.0.0.2:4050", None, None));
}

/// The collector of the page on metrics is taken, and what is wrong with one is said.
#[test]
fn traces_of_the_docs_are_taken() {
    let base = "[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n";
    let blocks = toml_blocks("docs/metrics.md");
    let config = Config::parse(&format!("{base}{}", blocks[0]), "f.toml").unwrap();
    let traces = config.traces.expect("the collector of the example");
    assert_eq!((traces.endpoint.as_str(), traces.share), ("http://127.0.0.1:4318/v1/traces", 1.0));
    for (wrong, message) in [
        ("endpoint = \"localhost:4317\"", "f.toml:4: wrong value of `endpoint`: \"localhost:4317\" is not a URL"),
        (
            "endpoint = \"http://c/v1/traces\"\nshare = 2.0",
            "f.toml:5: wrong value of `share`: it is a number from 0 to 1",
        ),
        ("endpoint = \"http://c/\"\nheaders = { \"a b\" = \"c\" }", "f.toml:5: `a b` is no name of a header"),
        ("endpoint = \"http://c/\"\nsample = 1.0", "f.toml:5: unknown key `sample`"),
    ] {
        assert_refused(&format!("{base}[traces]\n{wrong}\n"), message);
    }
}

/// HTTPS and SIP over TLS of the page on the configuration are taken, and what is wrong with one is said.
#[test]
fn tls_of_the_docs_is_taken_with_its_application_and_key() {
    let folder = std::env::temp_dir().join(format!("dialtone-docs-https-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["phone.example.com".to_owned()]).unwrap();
    let (cert, key, secret) = (folder.join("fullchain.pem"), folder.join("privkey.pem"), folder.join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&secret, "a-secret-of-an-account-at-twilio\n").unwrap();
    let blocks = toml_blocks("docs/configuration.md");
    let block = blocks.iter().find(|block| block.starts_with("[http]\nlisten = \"0.0.0.0:443\"")).expect("the example");
    let base = "[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n";
    let account = "[[account]]\nsid = \"AC00000000000000000000000000000001\"\nauth_token = \"token\"\n";
    let here = |text: &str| {
        text.replace("/etc/letsencrypt/live/phone.example.com", folder.to_str().unwrap())
            .replace("file:/etc/dialtone/key", &format!("file:{}", secret.display()))
    };
    let refuses = |text: &str, right: &str, wrong: &str, message: &str| {
        assert!(text.contains(right), "{right}");
        assert_refused(&here(&text.replace(right, wrong)), message);
    };
    let text = format!("{base}{block}\n{account}");
    let config = Config::parse(&here(&text), "f.toml").unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(config.http.tls, Some(Tls { certificate: Certificate::Files(_), plain: false })));
    let account_sid = "AC00000000000000000000000000000001".parse().unwrap();
    assert!(config.directory.application(account_sid, "AP00000000000000000000000000000001").is_some());
    let known = config.directory.key("SK00000000000000000000000000000001").unwrap();
    assert!(known.secret.matches("a-secret-of-an-account-at-twilio") && !known.secret.matches("another"));
    assert!(!format!("{:?}", config.directory).contains("a-secret-of"));
    for (right, wrong, message) in [
        ("fullchain.pem", "none.pem", "f.toml:5: wrong value of `tls`: "),
        ("privkey.pem", "fullchain.pem", "f.toml:5: wrong value of `tls`: "),
        ("tls = { cert", "tls = { own = true, cert", "f.toml:5: `tls` wants the paths of PEM files"),
        ("tls = { cert", "tls = { certificate", "f.toml:5: unknown key `certificate`: known here are cert, key"),
        ("\"AP0", "\"A0", "f.toml:10: wrong value of `sid`: \"A00000000000000000000000000000001\" is not AP and 32"),
        (
            "voice_url = \"https://app.example.com/outgoing\"",
            "",
            "f.toml:10: application AP00000000000000000000000000000001 has neither",
        ),
        ("file:/etc/dialtone/key", "short", "f.toml:16: wrong value of `secret`: it has fewer than 32 characters"),
    ] {
        refuses(&text, right, wrong, message);
    }
    let block = blocks.iter().find(|block| block.contains("tls://")).expect("the example of SIP");
    let text = format!("{block}\n{account}");
    let config = Config::parse(&here(&text), "f.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.sip.listen[1].transport, Transport::Tls);
    assert!(matches!(config.sip.tls, Some(SipTls { certificate: Certificate::Files(_), authorities: None })));
    for (right, wrong, message) in [
        ("\ntls =", "\n#", "f.toml:2: a tls:// listener wants a certificate"),
        ("\"tls://", "\"tcp://", "f.toml:3: [sip] tls serves nothing: `listen` has no tls://IP:PORT"),
        ("\"tls://", "\"tsl://", "f.toml:2: wrong value of `listen`: \"tsl://0.0.0.0:5061\" is not udp://IP:PORT, tcp"),
        ("transport=tls", "transport=sctp", "f.toml:8: wrong value of `uri`: only udp, tcp and tls are spoken"),
        (
            "[sip]\n",
            "[sip]\ntls_authorities = \"/nowhere.pem\"\n",
            "f.toml:2: wrong value of `tls_authorities`: /nowhere",
        ),
    ] {
        refuses(&text, right, wrong, message);
    }
    let shared = "[sip]\nlisten = [\"tls://127.0.0.1:5061\"]\n[http]\ntls = { own = true }\n";
    let shared = Config::parse(shared, "f.toml").unwrap().sip.tls.expect("that of HTTPS");
    assert!(matches!(shared.certificate, Certificate::Own));
    let own = Config::parse(&format!("{base}[http]\ntls = {{ own = true }}\n"), "f.toml").unwrap();
    assert_eq!(own.http.public_url, "https://127.0.0.1:4040");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What the page on browsers has for a configuration is taken, and what is wrong with it is said.
#[test]
fn browsers_of_the_docs_are_let_in() {
    let secret = std::env::temp_dir().join(format!("dialtone-docs-turn-{}", std::process::id()));
    std::fs::write(&secret, "a-secret-of-ours-and-of-coturn\n").unwrap();
    let blocks = toml_blocks("docs/browsers.md");
    let turn = blocks.iter().find(|block| block.contains("turn =")).expect("the example");
    let turn = turn.replace("/etc/dialtone/turn", secret.to_str().unwrap());
    let base = "[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\norigins = [\"https://app.example.com\"]\n";
    let text = format!("{base}{turn}");
    let config = Config::parse(&text, "f.toml").unwrap_or_else(|error| panic!("{error}"));
    let told = config.media.turn.expect("the servers of the example");
    assert_eq!(told.urls, ["stun:turn.example.com:3478", "turn:turn.example.com:3478?transport=udp"]);
    assert_eq!(told.secret.expect("their secret").expose(), "a-secret-of-ours-and-of-coturn");
    assert_eq!(config.sip.origins, Some(vec!["https://app.example.com".to_owned()]));
    for (right, wrong, message) in [
        (
            "app.example.com\"",
            "app.example.com/\"",
            "f.toml:3: wrong value of `origins`: \"https://app.example.com/\" is",
        ),
        (
            "\"stun:",
            "\"sturn:",
            "f.toml:5: wrong value of `urls`: \"sturn:turn.example.com:3478\" is not turn:HOST:PORT",
        ),
        (", secret =", "} #", "f.toml:5: `secret` is missing: what [media] turn shares with the server"),
        ("[media]\n", "[media]\nsrtp = \"never\"\n", "f.toml:5: wrong value of `srtp`: \"never\" is neither"),
    ] {
        assert!(text.contains(right), "{right}");
        assert_refused(&text.replace(right, wrong), message);
    }
    std::fs::remove_file(&secret).unwrap();
}

/// A budget of the page on usage stands beside its prices.
#[test]
fn budgets_of_the_docs_are_taken() {
    let blocks = toml_blocks("docs/usage.md");
    let prices = blocks[0].split("[[account]]").next().unwrap();
    let text = format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n{prices}{}", blocks[1]);
    let config = Config::parse(&text.replace("file:/etc/dialtone/token", "token"), "f.toml").unwrap();
    let account = config.directory.account("AC00000000000000000000000000000001".parse().unwrap()).unwrap();
    let budget = account.budget.expect("the budget of the example");
    assert_eq!((budget.price, budget.minutes), (Some(50_000_000), Some(2_000)));
}

/// The examples of the pages on limits and usage are taken as they stand.
#[test]
fn limits_and_prices_of_the_docs_are_taken() {
    for page in ["docs/limits.md", "docs/usage.md"] {
        let text = std::fs::read_to_string(page).unwrap();
        let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let block = block.replace("file:/etc/dialtone/token", "token");
        let whole = format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n{block}");
        let config = Config::parse(&whole, page).unwrap_or_else(|error| panic!("{error}"));
        let sid = "AC00000000000000000000000000000001".parse().unwrap();
        let account = config.directory.account(sid).expect("the account of the example");
        if page == "docs/limits.md" {
            assert_eq!(
                (account.limits.calls, account.limits.api, account.limits.streams),
                (Some(100), Some(50), Some(20))
            );
        } else {
            let book = config.directory.price_book(sid).expect("its price book");
            assert_eq!((book.editions.len(), book.editions[0].prices.len()), (1, 4));
            assert_eq!(book.editions[0].prices[1].tiers[0].per_unit, 11_000);
        }
    }
}

#[test]
fn wrong_files_are_refused_with_file_line_key_and_the_nearest_name() {
    let account = "[[account]]\nsid = \"AC00000000000000000000000000000001\"\nauth_token = \"t\"\n";
    let base = format!("[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\n{account}");
    for (text, message) in [
        ("[sip]\nlissten = []\n".to_owned(), "f.toml:2: unknown key `lissten`: did you mean `listen`?"),
        ("[spi]\n".to_owned(), "f.toml:1: unknown key `spi`: did you mean `sip`?"),
        (
            "[sip]\nlisten = [\"udp:127.0.0.1\"]\n".to_owned(),
            "f.toml:2: wrong value of `listen`: \"udp:127.0.0.1\" is not udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT",
        ),
        (
            "[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\nname_servers = [\"127.0.0.1\"]\n".to_owned(),
            "f.toml:3: wrong value of `name_servers`: \"127.0.0.1\" is not IP:PORT",
        ),
        (
            format!("{base}[http]\nallow_private_targets = \"yes\"\n"),
            "f.toml:7: wrong value of `allow_private_targets`: invalid type: string \"yes\", expected a boolean",
        ),
        (
            format!("{base}[store]\nurl = \"mysql://me:s3cret@host/db\"\n"),
            "f.toml:7: wrong value of `url`: it is neither sqlite://PATH nor postgres://USER@HOST:PORT/DATABASE",
        ),
        (
            format!("{base}[store]\nhot = \"memcached://s3cret@host\"\n"),
            "f.toml:7: wrong value of `hot`: it is neither memory nor redis://HOST:PORT",
        ),
        (
            format!("{base}[store]\nhot = \"redis://h:6379\"\n"),
            "f.toml:7: `hot` is what edges share: it needs [cluster] listen, the address by which the others find this one",
        ),
        (
            format!("{base}[store]\nhot = \"redis://h:6379\"\n[cluster]\nlisten = \"0.0.0.0:4050\"\n"),
            "f.toml:7: `hot` is what edges share: it needs [cluster] listen",
        ),
        (
            format!("{base}[cluster]\nlisten = \"10.0.0.1:4050\"\ncontact = \"sip.example;lr\"\n"),
            "f.toml:8: wrong value of `contact`: \"sip.example;lr\" is not HOST or HOST:PORT",
        ),
        (
            format!("{base}[media]\nports = \"9-1\"\n"),
            "f.toml:7: wrong value of `ports`: \"9-1\" is not a range such as \"20000-29999\" of at least two ports above 1023",
        ),
        (
            format!("{base}[media]\nlatching = \"on\"\n"),
            "f.toml:7: wrong value of `latching`: \"on\" is neither \"off\" nor \"nat\"",
        ),
        (
            format!("{base}[[number]]\naccount = \"AC00000000000000000000000000000001\"\nnumber = \"+1\"\n"),
            "f.toml:8: number +1 has neither `voice_url` nor `twiml`: nothing would answer it",
        ),
        (
            format!(
                "{base}[[number]]\naccount = \"AC00000000000000000000000000000002\"\nnumber = \"+1\"\ntwiml = \"<Response/>\"\n"
            ),
            "f.toml:7: `account` names AC00000000000000000000000000000002, which no [[account]] has as its sid",
        ),
        (
            format!(
                "{base}[[number]]\naccount = \"AC00000000000000000000000000000001\"\nnumber = \"+1\"\ntwiml = \"<Respond/>\"\n"
            ),
            "f.toml:9: wrong value of `twiml`",
        ),
        (
            format!(
                "{base}[[trunk]]\naccount = \"AC00000000000000000000000000000001\"\nname = \"t\"\nuri = \"sip:h\"\nrealm = \"r\"\n"
            ),
            "f.toml:10: `realm` says whose challenge `username` and `password` answer: give both, or leave it out",
        ),
        (
            format!(
                "{base}[[trunk]]\naccount = \"AC00000000000000000000000000000001\"\nname = \"t\"\nuri = \"sip:h\"\nusername = \"u\"\npassword = \"p\"\nrealm = 'r\"'\n"
            ),
            "f.toml:12: wrong value of `realm`: it must not hold quotes, backslashes or control characters",
        ),
        (
            format!(
                "{base}[[trunk]]\naccount = \"AC00000000000000000000000000000001\"\nname = \"t\"\nuri = \"sips:h\"\n"
            ),
            "f.toml:9: `uri` wants TLS, and [sip] listen has no tls://IP:PORT to send by",
        ),
        (
            format!(
                "{base}[[trunk]]\naccount = \"AC00000000000000000000000000000001\"\nname = \"t\"\nuri = \"sip:h;transport=tls\"\n"
            ),
            "f.toml:9: `uri` wants TLS, and [sip] listen has no tls://IP:PORT to send by",
        ),
        (
            format!("{base}[recordings]\nurl = \"s3://audio\"\nfolder = \"audio\"\n"),
            "f.toml:8: `folder` and `url` exclude each other: keep one",
        ),
        (
            format!("{base}[recordings]\nurl = \"s3://audio\"\naccess_key_id = \"AKIA1\"\n"),
            "f.toml:7: `secret_access_key` is missing: `url` needs `access_key_id` and `secret_access_key`",
        ),
        (
            format!("{base}[recordings]\nurl = \"https://audio.example\"\n"),
            "f.toml:7: wrong value of `url`: \"https://audio.example\" is not s3://BUCKET or s3://BUCKET/PREFIX",
        ),
        (format!("{base}[recordings]\nurl = \"s3://Audio\"\n"), "f.toml:7: wrong value of `url`"),
        (format!("{base}[recordings]\nurl = \"s3://audio/../x\"\n"), "f.toml:7: wrong value of `url`"),
        (format!("{base}[recordings]\nurl = \"s3://audio//x\"\n"), "f.toml:7: wrong value of `url`"),
        (
            format!("{base}[recordings]\nurl = \"s3://audio\"\nendpoint = \"http://s3.internal\"\n"),
            "f.toml:8: wrong value of `endpoint`: recordings would go over the network as they are: give an https url, or \
             say allow_http = true",
        ),
        (
            format!("{base}[recordings]\nurl = \"s3://audio\"\nendpoint = \"s3.internal\"\n"),
            "f.toml:8: wrong value of `endpoint`: \"s3.internal\" is not an http or https url",
        ),
        (
            format!("{base}[recordings]\nurl = \"s3://audio\"\nregion = \"\"\n"),
            "f.toml:8: wrong value of `region`: \"\" is not a name such as eu-central-1",
        ),
        (
            format!("{base}[recordings]\nsecret_access_key = \"s3cret\"\n"),
            "f.toml:7: `secret_access_key` says how to reach a bucket: `url` must name one, such as s3://BUCKET",
        ),
        (
            format!("{base}[recordings]\nkeep_days = -1\n"),
            "f.toml:7: wrong value of `keep_days`: invalid value: integer `-1`, expected u32",
        ),
        (
            format!("{base}limits = {{ calls = 5, when_full = \"queue\" }}\n"),
            "f.toml:6: wrong value of `when_full`: \"queue\" is not \"reject\" or \"delay\" or \"preempt\"",
        ),
        (
            format!("{base}limits = {{ calls = 5, wait = \"5s\" }}\n"),
            "f.toml:6: `wait` says nothing without when_full = \"delay\"",
        ),
        (
            format!("{base}limits = {{ when_full = \"delay\", wait = \"2m\" }}\n"),
            "f.toml:6: wrong value of `wait`: it is not a time such as \"500ms\" or \"10s\", of 60 s at most",
        ),
        (
            "[sip]\nlisten = [\"udp://127.0.0.1:5060\"]\nhep = { collector = \"homer:9060\" }\n".to_owned(),
            "f.toml:3: wrong value of `collector`: \"homer:9060\" is not IP:PORT",
        ),
        (format!("{base}limits = {{ api = 0 }}\n"), "f.toml:6: wrong value of `api`: with 0 nobody could ask"),
        (
            format!("{base}budget = {{ price = \"5\" }}\n"),
            "f.toml:6: a budget of a price holds nothing back where nothing has a price: give the account a `price_book`",
        ),
        (format!("{base}budget = {{}}\n"), "f.toml:6: `budget` limits nothing: give it a `price`, or `minutes`"),
        (
            format!("{base}budget = {{ minutes = 5, recurring = \"weekly\" }}\n"),
            "f.toml:6: wrong value of `recurring`: \"weekly\" is none of daily, monthly, yearly, alltime",
        ),
        (format!("{base}budget = {{ minuts = 5 }}\n"), "f.toml:6: unknown key `minuts`: did you mean `minutes`?"),
        (
            format!("{base}price_book = \"retail\"\n"),
            "f.toml:6: `price_book` names retail, which no [[price_book]] has as its name",
        ),
        (
            format!("{base}[[price_book]]\nname = \"a\"\nprices = [{{ category = \"calls\", per_minute = \"1\" }}]\n"),
            "f.toml:8: wrong value of `category`: nothing is counted in \"calls\" itself; there are calls-inbound",
        ),
        (
            format!(
                "{base}[[price_book]]\nname = \"a\"\nprices = [{{ category = \"sms-inbound\", per_minute = \"1\" }}]\n"
            ),
            "f.toml:8: sms-inbound has a price per_message, and no other",
        ),
        (
            format!(
                "{base}[[price_book]]\nname = \"a\"\nprices = [{{ category = \"calls-inbound\", per_minute = \"0.1234567\" }}]\n"
            ),
            "f.toml:8: wrong value of `per_minute`: it is not an amount such as \"0.0130\"",
        ),
        (
            format!(
                "{base}[[price_book]]\nname = \"a\"\nprices = [{{ category = \"calls-inbound\", per_minute = \"1\", increment = \"60\" }}]\n"
            ),
            "f.toml:8: wrong value of `increment`: it is not FIRST/NEXT in seconds",
        ),
        (
            format!("{base}[[price_book]]\nname = \"a\"\nfrom = \"2026-02-30\"\n"),
            "f.toml:8: wrong value of `from`: it is not a day such as \"2026-01-01\"",
        ),
        (
            format!("{base}[[price_book]]\nname = \"a\"\n[[price_book]]\nname = \"a\"\n"),
            "f.toml:9: price book a stands twice from the same day on",
        ),
        (format!("{base}{account}"), "f.toml:7: account AC00000000000000000000000000000001 stands twice"),
    ] {
        assert_refused(&text, message);
    }
}
