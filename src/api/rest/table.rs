//! The table of routes: what the router is made of, what `/openapi.json` tells, and what tests go through.

use std::fmt;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::MatchedPath;
use axum::handler::Handler;
use axum::http::{Extensions, Method};
use axum::routing::{MethodFilter, on};

use super::fields::{Field, Shape, Usual};
use crate::api::View;

/// Routes, with a record of each.
#[derive(Default)]
pub struct Table {
    pub router: Router<View>,
    pub routes: Vec<Route>,
}

/// A request that is served.
#[derive(Clone)]
pub struct Route {
    pub method: Method,
    /// The path: `{account}`, `{sid}` and `{name}` stand for what is named.
    pub path: String,
    pub params: Vec<Param>,
    /// Whether it answers with a list in pages.
    pub is_list: bool,
}

/// A parameter that a route reads.
#[derive(Clone, Copy)]
pub struct Param {
    pub name: &'static str,
    /// What it may be, where a table of fields says so.
    field: Option<&'static Field>,
}

/// What every list reads.
pub const PAGING: &[&str] = &["PageSize", "Page", "PageToken"];

impl Table {
    pub fn on<H, T>(mut self, method: Method, path: &str, handler: H) -> Table
    where
        H: Handler<T, View>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the methods of the API are ordinary ones");
        self.router = self.router.route(path, on(filter, handler));
        self.routes.push(Route { method, path: path.to_owned(), params: Vec::new(), is_list: false });
        self
    }

    /// Says what the last route reads: a parameter that is not said here cannot be read (see [`Route::reads`]).
    pub fn reads(mut self, names: &[&'static str]) -> Table {
        self.last().params.extend(names.iter().map(|&name| Param { name, field: None }));
        self
    }

    /// The same, of fields.
    pub fn reads_fields(mut self, fields: &'static [Field]) -> Table {
        self.last().params.extend(fields.iter().map(|field| Param { name: field.param, field: Some(field) }));
        self
    }

    /// The last route is a list in pages, with these filters.
    pub fn lists(mut self, filters: &[&'static str]) -> Table {
        self.last().is_list = true;
        self.reads(filters)
    }

    fn last(&mut self) -> &mut Route {
        self.routes.last_mut().expect("a route was added before")
    }
}

impl Param {
    /// Whether it is kept and shown, and does nothing.
    pub fn is_idle(&self) -> bool {
        self.field.is_some_and(|field| field.is_idle)
    }

    /// Whether a new resource must have it.
    pub fn is_required(&self) -> bool {
        self.field.is_some_and(|field| matches!(field.usual, Usual::Required))
    }

    pub fn shape(&self) -> Option<&'static Shape> {
        self.field.map(|field| &field.shape)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Route {
    /// The route by which a request came. Debug builds know it, to find parameters that are read and not said.
    pub fn of(extensions: &Extensions, method: &Method) -> Option<&'static Route> {
        static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| super::table().routes);
        let path = extensions.get::<MatchedPath>().filter(|_| cfg!(debug_assertions))?;
        ROUTES.iter().find(|route| route.method == *method && route.path == path.as_str())
    }

    /// Whether the parameter is one that the table tells of.
    pub fn reads(&self, name: &str) -> bool {
        self.params.iter().any(|param| param.name == name) || (self.is_list && PAGING.contains(&name))
    }
}
