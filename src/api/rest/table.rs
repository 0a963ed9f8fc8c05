//! The table of routes: what the router is made of, and what tests go through.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use crate::api::View;

/// Routes, with a record of each.
#[derive(Default)]
pub struct Table {
    pub router: Router<View>,
    /// Method and path pattern: `{account}`, `{sid}` and `{name}` stand for what is named.
    pub routes: Vec<(Method, String)>,
}

impl Table {
    pub fn on<H, T>(mut self, method: Method, path: &str, handler: H) -> Table
    where
        H: Handler<T, View>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the methods of the API are ordinary ones");
        self.router = self.router.route(path, on(filter, handler));
        self.routes.push((method, path.to_owned()));
        self
    }
}
