//! HTTP: health, metrics, and what the command line asks a running server.

mod accounts;
mod calls;
mod compatibility;
mod connections;
mod console;
mod corrections;
mod demo;
mod events;
mod health;
pub mod neighbours;
mod operator;
mod registration;
mod rest;
mod signal;
mod sip_ws;
mod sounds;
mod telemetry;
mod turn;
mod workers;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

pub use connections::{serve, serve_connection, serve_tls};
pub use console::Console;
pub use signal::Lines;
pub use turn::Turn;

pub use rest::{Param, RequestPlaces, Route, SinkTest};

use crate::account::{Aor, Client, Directory};
use crate::concurrency::Ledger;
use crate::edges::Edges;
use crate::events::{Live, LiveConferences, LiveMessages, LiveQueues, LiveRecordings, LiveStreams, Publisher};
use crate::hot::Bindings;
use crate::ids::CallSid;
use crate::presence::{ClientId, DeviceKind, Presence};
use crate::provision::Provisioning;
use crate::recordings::Archive;
use crate::secret::Secret;
use crate::shard::MailBox;
use crate::store::{Fire, Store};
use crate::streams::Hub;
use crate::workers::Roster;

/// What the HTTP side sees of the server.
#[derive(Clone)]
pub struct View {
    /// Browsers that are connected.
    pub lines: Lines,
    pub turn: Option<Arc<Turn>>,
    pub console: Console,
    pub store: Store,
    pub live: Live,
    pub recordings: LiveRecordings,
    pub streams: LiveStreams,
    pub conferences: LiveConferences,
    pub messages: LiveMessages,
    pub queues: LiveQueues,
    pub archive: Archive,
    /// What happens here is told through it.
    pub publisher: Publisher,
    /// The other edges, where this one is one of several.
    pub edges: Option<Edges>,
    /// Where customers reach this API, without a slash at the end.
    pub public_url: String,
    pub directory: Arc<ArcSwap<Directory>>,
    /// Who can be reached.
    pub presence: Presence,
    /// The SIP contacts among that.
    pub bindings: Arc<Bindings>,
    /// Who listens to what happens.
    pub hub: Hub,
    /// The places of requests.
    pub requests: RequestPlaces,
    /// Usage triggers that have fired.
    pub fires: mpsc::Sender<Fire>,
    /// Sinks that are to be tested.
    pub sink_tests: mpsc::Sender<SinkTest>,
    /// This edge, as its operator calls it.
    pub name: String,
    /// Where limits are shared with other edges.
    pub ledger: Option<Ledger>,
    /// Writes what customers make.
    pub provisioning: Arc<Provisioning>,
    /// The sid of the call that was ordered last: those of one millisecond sort in the order of their requests.
    pub last_order: Arc<Mutex<CallSid>>,
    /// The way to the shard.
    pub mail: MailBox,
    pub workers: Roster,
    pub operator_token: Secret,
    /// Whether `public_url` was said; where it was not, a request says by which name it came.
    pub is_named: bool,
    pub draining: Arc<AtomicBool>,
    pub metrics: PrometheusHandle,
    /// `dev` serves the demo's documents itself.
    pub demo: bool,
}

impl View {
    /// Takes a device's registration away, if it is at this edge.
    pub fn remove_device(&self, client: &ClientId, sid: &str) {
        let own = self.presence.book().own(client);
        let Some(device) = own.devices.iter().find(|device| device.sid == sid) else { return };
        let user = self.directory.load().user_of(client.account, &client.identity).cloned();
        let aor = match device.kind {
            DeviceKind::Sip => user.map(|user| Aor { username: user.username.clone(), domain: user.domain.clone() }),
            DeviceKind::Browser => Some(Client::aor(client.account, &client.identity)),
            DeviceKind::Token => None,
        };
        if let Some(aor) = aor {
            self.bindings.remove(aor, &device.contact);
        }
        self.presence.remove(client, sid);
    }
}

/// Every route of the REST API, with what it reads: for what is told of it, and for tests that leave none out.
pub fn rest_routes() -> Vec<Route> {
    rest::table().routes
}

/// Every path of the main listener.
pub fn router(view: View) -> Router {
    let demo = if view.demo { demo::router() } else { Router::new() };
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::guarded_metrics))
        .route("/metrics/accounts", get(health::account_metrics))
        .route("/compatibility", get(compatibility::page))
        .route("/dialtone/v1/calls", get(calls::list))
        .route("/dialtone/v1/calls/{sid}", get(calls::show))
        .route("/dialtone/v1/Accounts/{sid}", post(accounts::change))
        .route("/dialtone/v1/Accounts/{sid}/Corrections", post(corrections::create))
        .route("/dialtone/v1/Workers", get(workers::list))
        .route("/dialtone/v1/Workers/{id}", post(workers::change))
        .route("/2010-04-01/Events", get(events::open))
        .route("/2010-04-01/Registration", get(registration::open))
        .route("/signal", get(signal::open))
        .route("/sip", get(sip_ws::open))
        .route("/sounds/{file}", get(sounds::sound))
        .route("/ev", post(telemetry::take).options(telemetry::preflight))
        .merge(rest::router(&view))
        .layer(from_fn_with_state(view.clone(), neighbours::hand_on))
        .merge(console::router())
        .merge(demo)
        .with_state(view)
}

/// The paths of `[http] metrics_listen`: whoever reaches that address may read them.
pub fn metrics_router(view: View) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::open_metrics))
        .with_state(view)
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    u128::from_be_bytes(bytes)
}

/// An error as the API tells it: Twilio's envelope.
fn error(status: axum::http::StatusCode, code: u32, message: &str) -> axum::response::Response {
    use axum::response::IntoResponse;
    let body = serde_json::json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status.as_u16(),
    });
    (status, axum::Json(body)).into_response()
}
