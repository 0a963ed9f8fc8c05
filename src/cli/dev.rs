//! `dialtone dev`: a server that works at once, with everything that a first call needs.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{DEV_CONFIG, Logging, serve};
use crate::config::Config;
use crate::ids::AccountSid;
use crate::server::{Seat, Server};
use crate::speech;

const FOLDER: &str = ".dialtone";
const SECRETS: &str = ".dialtone/secrets.json";
const USERS: [&str; 2] = ["desk", "mobile"];
const MENU: &str = "+15550000001";
const ECHO: &str = "+15550000002";

#[derive(Args)]
pub struct Dev {
    /// Where SIP listens, UDP and TCP
    #[arg(long, default_value = "127.0.0.1:5060", value_name = "IP:PORT")]
    sip: SocketAddr,
    /// Where HTTP listens
    #[arg(long, default_value = "127.0.0.1:4040", value_name = "IP:PORT")]
    http: SocketAddr,
    /// Your application: answers every number that is not a demo
    #[arg(long, default_value = "http://127.0.0.1:3000/voice", value_name = "URL")]
    app: String,
    /// Listen on the network, for a real phone
    #[arg(long)]
    lan: bool,
    /// RTP ports
    #[arg(long, default_value = "20000-29999", value_name = "FIRST-LAST")]
    rtp: String,
    /// Print what is where as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    logging: Logging,
}

/// What this installation has of its own: made once, then kept.
#[derive(Serialize, Deserialize)]
struct Secrets {
    account_sid: AccountSid,
    auth_token: String,
    operator_token: String,
    user_secret: String,
}

impl Dev {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        fs::create_dir_all(FOLDER).map_err(|error| format!("cannot make the folder {FOLDER} here: {error}"))?;
        let secrets = Secrets::load_or_make()?;
        let text = self.config(&secrets);
        let config = Config::parse(&text, DEV_CONFIG).map_err(|error| error.to_string())?;
        write_private(DEV_CONFIG, text.as_bytes()).map_err(|error| format!("cannot write {DEV_CONFIG}: {error}"))?;
        let logging = self.logging.clone();
        serve::run(config, Path::new(DEV_CONFIG), logging, true, Seat::default(), |server| self.greet(server, &secrets))
    }

    fn config(&self, secrets: &Secrets) -> String {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let (sip, http) = if self.lan {
            (SocketAddr::new(any, self.sip.port()), SocketAddr::new(any, self.http.port()))
        } else {
            (self.sip, self.http)
        };
        let (account, app) = (secrets.account_sid, toml::Value::String(self.app.clone()));
        // The demo's documents are fetched by the server from itself.
        let own = SocketAddr::new(
            if http.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { http.ip() },
            http.port(),
        );
        // For programs of this machine, also with --lan.
        let proxy = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.http.port().wrapping_add(1));
        let mut text = format!(
            "# Made by `dialtone dev` at each start: a copy of it is a good beginning for `dialtone serve`.\n\
             [sip]\nlisten = [\"udp://{sip}\", \"tcp://{sip}\"]\nrealm = \"dialtone\"\n\
             # Softphones of some age, Debian's baresip among them, give up on a challenge that offers SHA-256 as well.\n\
             digest = [\"MD5\"]\n\n\
             [http]\nlisten = \"{http}\"\n\
             # HTTPS and HTTP by one port; {FOLDER}/ca.pem is the authority that a browser or program is to trust.\n\
             tls = {{ own = true, plain = true }}\nallow_private_targets = true\noperator_token = \"{}\"\n\
             # Programs of the Twilio SDKs, unmodified: see `dialtone env`.\n\
             sdk_proxy = \"{proxy}\"\nsdk_proxy_tunnels = true\n\n\
             [media]\nports = \"{}\"\n# The one process moves media itself.\nworkers = 0\n\n\
             [store]\nurl = \"sqlite://{FOLDER}/dialtone.db\"\n\n\
             [server]\ndrain_timeout = 5\n\n\
             [[account]]\nsid = \"{account}\"\nauth_token = \"{}\"\nname = \"dev\"\n\n\
             [[number]]\naccount = \"{account}\"\nnumber = \"{MENU}\"\nvoice_url = \"http://{own}/demo/menu\"\n\n\
             [[number]]\naccount = \"{account}\"\nnumber = \"{ECHO}\"\ntwiml = \"<Response><Echo/></Response>\"\n",
            secrets.operator_token, self.rtp, secrets.auth_token,
        );
        for user in USERS {
            text += &format!(
                "\n[[user]]\naccount = \"{account}\"\nusername = \"{user}\"\npassword = \"{}\"\nvoice_url = {app}\n\n\
                 [[number]]\naccount = \"{account}\"\nnumber = \"{user}\"\ntwiml = \"<Response><Dial answerOnBridge='true'><Client>{user}</Client></Dial></Response>\"\n",
                secrets.user_secret
            );
        }
        text
    }

    fn greet(&self, server: &Server, secrets: &Secrets) {
        let sip = server.listening().first().map_or(self.sip, |listen| listen.advertise);
        // In the network the server is where its SIP side says that it is.
        let http = if server.http().ip().is_unspecified() {
            SocketAddr::new(sip.ip(), server.http().port())
        } else {
            server.http()
        };
        if self.json {
            let line = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "sip": sip.to_string(), "http": format!("http://{http}"), "https": format!("https://{http}"), "console": format!("http://{http}/"),
                "authority": format!("{FOLDER}/ca.pem"), "app": self.app, "data": FOLDER,
                "users": USERS.map(|user| serde_json::json!({ "username": user, "password": secrets.user_secret })),
                "account_sid": secrets.account_sid, "auth_token": secrets.auth_token, "operator_token": secrets.operator_token,
                "numbers": { MENU: "menu", ECHO: "echo" },
                "speech": speech::Engine::detect().is_ok(),
            });
            println!("{line}");
            return;
        }
        let reach = if self.lan { "listening on the network" } else { "loopback only" };
        println!("dialtone {} dev mode - data in ./{FOLDER}, {reach}\n", env!("CARGO_PKG_VERSION"));
        println!("  SIP        {sip} (udp and tcp)   users {} / {}", USERS.join(" "), secrets.user_secret);
        println!(
            "  Console    http://{http}/   two phones in your browser, live calls, and what your application was asked"
        );
        println!("  HTTP       http://{http}   metrics at /metrics; https too, by the authority in {FOLDER}/ca.pem");
        println!("  Account    {} / {}", secrets.account_sid, secrets.auth_token);
        println!("  Operator   {}", secrets.operator_token);
        println!("\n  Numbers    {MENU} -> spoken menu    {ECHO} -> echo    desk, mobile -> each other");
        println!("             any other    -> {}  (start your application; each call asks it afresh)", self.app);
        println!("\n  Look       dialtone calls      dialtone call SID");
        println!(
            "  SDKs       eval \"$(dialtone env)\"   unmodified programs of the Twilio SDKs then reach this server"
        );
        if let Err(missing) = speech::Engine::detect() {
            println!("\n  Note       {missing}");
        }
        println!();
    }
}

impl Secrets {
    fn load_or_make() -> Result<Secrets, String> {
        match fs::read(SECRETS) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| format!("{SECRETS} cannot be read: {error}; delete it to get new secrets")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secrets = Secrets::make()?;
                let bytes = serde_json::to_vec_pretty(&secrets).map_err(|error| error.to_string())?;
                write_private(SECRETS, &bytes).map_err(|error| format!("cannot write {SECRETS}: {error}"))?;
                Ok(secrets)
            }
            Err(error) => Err(format!("cannot read {SECRETS}: {error}")),
        }
    }

    fn make() -> Result<Secrets, String> {
        let random = || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes)
                .map(|()| u128::from_be_bytes(bytes))
                .map_err(|error| format!("no randomness: {error}"))
        };
        Ok(Secrets {
            account_sid: AccountSid::new(random()?),
            auth_token: format!("{:032x}", random()?),
            operator_token: format!("{:032x}", random()?),
            // Typed into a phone by hand: 60 bits are enough against the wrong-password limit.
            user_secret: format!("{:032x}", random()?)[..15].to_owned(),
        })
    }
}

/// Writes a file that only its owner may read.
fn write_private(path: &str, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
