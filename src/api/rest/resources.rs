//! Resources that are rows: made, listed, fetched, changed and deleted, all in one way. What tells them apart is a [`Spec`].

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::{Acting, Names};
use super::fault::Fault;
use super::fields::{self, Field, Shape};
use super::form::{Form, invalid};
use super::page::{Base, Page};
use super::queues;
use super::table::Table;
use crate::account::Account;
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{fresh_sid, is_sid};
use crate::store::{Kind, Listed, Resource, StoreError};

/// What is special about a resource.
pub struct Spec {
    pub kind: Kind,
    /// The two letters of its sids.
    pub prefix: &'static str,
    /// The path of its list below the account, or below the version.
    pub path: &'static str,
    /// The key of the list in its envelope.
    pub key: &'static str,
    pub fields: &'static [Field],
    /// What it is below; nothing of what is below the account itself.
    pub parent: Option<Kind>,
    /// The parameter that names what is put to use, and what that is: the sid is its own then.
    pub uses: Option<(&'static str, Kind)>,
    pub api: Api,
    pub filters: Filters,
    /// What `read` reads of a form besides the fields.
    pub reads: &'static [&'static str],
    /// What is read from a form besides the fields, and everything that must fit together; with the row that is changed.
    pub read: Read,
    /// Why it cannot be deleted.
    pub may_go: fn(&View, &Resource) -> Result<(), Fault>,
    /// What is shown besides the fields, and what is not.
    pub show: fn(&View, &Resource, &mut Map<String, Value>),
    /// The name that no other of the kind may have, and the error number where one has it.
    pub unique: Option<(Unique, u32)>,
}

/// What most lists are filtered by.
pub const FILTERS: Filters = &[("FriendlyName", "friendly_name"), ("PhoneNumber", "phone_number")];

/// What a list is filtered by: the parameter, and the key of the detail that is to have its value.
pub type Filters = &'static [(&'static str, &'static str)];

/// Reads what is special from a form into the detail.
pub type Read = fn(&View, &Form, Option<&Resource>, &mut Map<String, Value>) -> Result<(), Fault>;

/// Makes the name of a row that is written.
pub type Unique = fn(&Resource, &Map<String, Value>) -> Option<String>;

/// Which form its answers have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `2010-04-01`: relative `uri`, RFC 2822 dates.
    Classic,
    /// `v1`: absolute `url`, ISO dates.
    V1,
}

pub fn read_nothing_more(_: &View, _: &Form, _: Option<&Resource>, _: &mut Map<String, Value>) -> Result<(), Fault> {
    Ok(())
}

pub fn may_always_go(_: &View, _: &Resource) -> Result<(), Fault> {
    Ok(())
}

pub fn show_nothing_more(_: &View, _: &Resource, _: &mut Map<String, Value>) {}

impl Spec {
    /// Adds the paths of the resource to the table.
    pub fn routes(&'static self, table: Table) -> Table {
        let (list_path, path) = self.patterns();
        let table = table
            .on(Method::GET, &list_path, move |view: axum::extract::State<View>, acting, names, base, page| {
                list(self, view.0, acting, names, base, page)
            })
            .lists(&self.filters.iter().map(|(name, _)| *name).collect::<Vec<_>>())
            .on(Method::GET, &path, move |view: axum::extract::State<View>, acting, names, base| {
                fetch(self, view.0, acting, names, base)
            })
            .on(Method::DELETE, &path, move |view: axum::extract::State<View>, acting, names| {
                remove(self, view.0, acting, names)
            });
        // These are made by requests of another kind.
        let table = match self.kind {
            Kind::CallerId | Kind::Key => table,
            _ => table
                .on(Method::POST, &list_path, move |view: axum::extract::State<View>, acting, names, base, form| {
                    create(self, view.0, acting, names, base, form)
                })
                .reads_fields(self.fields)
                .reads(self.reads)
                .reads(self.uses.map(|(name, _)| name).as_slice()),
        };
        // What is put to use has nothing that could be changed.
        if self.uses.is_some() {
            return table;
        }
        table
            .on(Method::POST, &path, move |view: axum::extract::State<View>, acting, names, base, form| {
                update(self, view.0, acting, names, base, form)
            })
            .reads_fields(self.fields)
            .reads(self.reads)
    }

    fn patterns(&self) -> (String, String) {
        let place = if self.parent.is_some() { "{name}" } else { "{sid}" };
        match self.api {
            Api::Classic => {
                let path = format!("/2010-04-01/Accounts/{{account}}{}", self.path);
                (format!("{path}.json"), format!("{path}/{place}"))
            }
            Api::V1 => (format!("/v1{}", self.path), format!("/v1{}/{place}", self.path)),
        }
    }

    /// The path of the list, as it is asked for.
    fn list_path(&self, account: &str, parent: &str) -> String {
        let (pattern, _) = self.patterns();
        pattern.replace("{account}", account).replace("{sid}", parent)
    }

    fn own_name<'a>(&self, names: &'a Names) -> &'a str {
        names.get(if self.parent.is_some() { "name" } else { "sid" })
    }

    /// The sid of the parent, which is there and the account's.
    async fn parent<'a>(&self, view: &View, account: &Account, names: &'a Names) -> Result<&'a str, Fault> {
        let Some(kind) = self.parent else { return Ok("") };
        let sid = names.get("sid");
        match find(view, account, kind, "", sid).await? {
            Some(_) => Ok(sid),
            None => Err(Fault::not_found(sid)),
        }
    }

    fn shown(&self, view: &View, row: &Resource, base: &Base) -> Value {
        let mut shown = detail(row);
        shown.insert("sid".into(), json!(row.sid));
        shown.insert("account_sid".into(), json!(row.account));
        let date = |at_ms| match self.api {
            Api::Classic => rfc_2822(at_ms),
            Api::V1 => iso_8601(at_ms),
        };
        shown.insert("date_created".into(), json!(date(row.created_ms)));
        shown.insert("date_updated".into(), json!(date(row.updated_ms)));
        let list = self.list_path(&row.account, &row.parent);
        let path = format!("{}/{}", list.strip_suffix(".json").unwrap_or(&list), row.sid);
        match self.api {
            Api::Classic => shown.insert("uri".into(), json!(format!("{path}.json"))),
            Api::V1 => shown.insert("url".into(), json!(format!("{base}{path}"))),
        };
        (self.show)(view, row, &mut shown);
        Value::Object(shown)
    }

    fn name(&self, row: &Resource, detail: &Map<String, Value>) -> Option<String> {
        self.unique.and_then(|(name, _)| name(row, detail))
    }

    fn fault(&self, error: &StoreError) -> Fault {
        match (error, self.unique) {
            (StoreError::Taken, Some((_, code))) => Fault::parameter(code, "The name is taken"),
            (StoreError::Taken, None) => Fault::parameter(20_001, "It is in use there already"),
            _ => Fault::store_is_away(),
        }
    }
}

async fn list(
    spec: &'static Spec,
    view: View,
    Acting(account): Acting,
    names: Names,
    base: Base,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let parent = spec.parent(&view, &account, &names).await?;
    if let Some(before) = page.after.as_ref().filter(|before| !is_sid(before, spec.prefix)) {
        return Err(invalid("PageToken", before, "a token of ours"));
    }
    // One more than the page holds: whether another page follows.
    let sid = account.sid.to_string();
    let wanted: Vec<_> =
        spec.filters.iter().filter_map(|(name, key)| Some((*key, json!(page.query.text(name)?)))).collect();
    let takes = |row: &Resource| {
        let detail = if wanted.is_empty() { Map::new() } else { detail(row) };
        wanted.iter().all(|(key, value)| detail.get(*key) == Some(value))
    };
    let mut new = if page.after.is_none() { unwritten(spec.kind, &view, &account) } else { Vec::new() };
    let mut rows: Vec<Resource> = Vec::new();
    let mut before = page.after.clone();
    loop {
        let limit = page.size + 1;
        let listed = Listed { account: &sid, kind: spec.kind, parent, before: before.as_deref(), limit };
        let found = view.store.list(&listed).await.map_err(|_| Fault::store_is_away())?;
        let ends = found.len() < limit as usize;
        before = found.last().map(|row| row.sid.clone());
        rows.extend(found.into_iter().filter(takes));
        if ends || rows.len() > page.size as usize {
            break;
        }
    }
    new.retain(|row| takes(row) && rows.iter().all(|known| known.sid != row.sid));
    rows.splice(0..0, new);
    let follows = rows.len() > page.size as usize;
    rows.truncate(page.size as usize);
    let last = rows.last().filter(|_| follows).map(|row| row.sid.clone());
    let items = rows.iter().map(|row| spec.shown(&view, row, &base)).collect();
    let path = spec.list_path(&sid, parent);
    Ok(Json(match spec.api {
        Api::Classic => page.envelope(spec.key, items, last, &path),
        Api::V1 => page.envelope_v1(spec.key, items, last, &format!("{base}{path}")),
    }))
}

async fn create(
    spec: &'static Spec,
    view: View,
    Acting(account): Acting,
    names: Names,
    base: Base,
    form: Form,
) -> Result<Response, Fault> {
    let parent = spec.parent(&view, &account, &names).await?;
    let mut detail = fields::read(&form, spec.fields, None)?;
    let sid = match spec.uses {
        None => fresh_sid(spec.prefix, wall_ms(), crate::api::random()),
        Some((param, kind)) => {
            let sid = form.text(param).ok_or_else(|| fields::missing(param))?;
            let used = find(&view, &account, kind, "", sid).await?;
            let used = used.ok_or_else(|| Fault::parameter(20_001, format!("{param} {sid} is not of this account")))?;
            let name = self::detail(&used).get("friendly_name").cloned();
            detail.insert("friendly_name".into(), name.unwrap_or(Value::Null));
            sid.to_owned()
        }
    };
    check_sids(&view, &account, &form, spec.fields).await?;
    (spec.read)(&view, &form, None, &mut detail)?;
    let now = wall_ms();
    let mut row = Resource {
        kind: spec.kind,
        parent: parent.to_owned(),
        sid,
        account: account.sid.to_string(),
        unique_name: None,
        detail: Value::Object(detail.clone()).to_string(),
        created_ms: now,
        updated_ms: now,
    };
    row.unique_name = spec.name(&row, &detail);
    let shown = spec.shown(&view, &row, &base);
    view.provisioning.create(row).await.map_err(|error| spec.fault(&error))?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

async fn fetch(
    spec: &'static Spec,
    view: View,
    Acting(account): Acting,
    names: Names,
    base: Base,
) -> Result<Json<Value>, Fault> {
    let row = row_of(spec, &view, &account, &names).await?;
    Ok(Json(spec.shown(&view, &row, &base)))
}

async fn update(
    spec: &'static Spec,
    view: View,
    Acting(account): Acting,
    names: Names,
    base: Base,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut row = row_of(spec, &view, &account, &names).await?;
    let mut detail = fields::read(&form, spec.fields, Some(detail(&row)))?;
    check_sids(&view, &account, &form, spec.fields).await?;
    (spec.read)(&view, &form, Some(&row), &mut detail)?;
    row.unique_name = spec.name(&row, &detail);
    row.detail = Value::Object(detail).to_string();
    row.updated_ms = wall_ms();
    let shown = spec.shown(&view, &row, &base);
    let done = view.provisioning.update(&account.sid.to_string(), row).await.map_err(|error| spec.fault(&error))?;
    if done { Ok(Json(shown)) } else { Err(Fault::not_found(spec.own_name(&names))) }
}

async fn remove(spec: &'static Spec, view: View, Acting(account): Acting, names: Names) -> Result<StatusCode, Fault> {
    let row = row_of(spec, &view, &account, &names).await?;
    (spec.may_go)(&view, &row)?;
    let deleted = match spec.uses {
        Some(_) => view.provisioning.delete(&row.account, row.kind, &row.parent, &row.sid).await,
        None => view.provisioning.delete_with_uses(&row.account, &row.sid).await,
    };
    match deleted.map_err(|_| Fault::store_is_away())? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Fault::not_found(&row.sid)),
    }
}

async fn row_of(spec: &'static Spec, view: &View, account: &Arc<Account>, names: &Names) -> Result<Resource, Fault> {
    let parent = spec.parent(view, account, names).await?;
    let sid = spec.own_name(names);
    let found = if is_sid(sid, spec.prefix) { find(view, account, spec.kind, parent, sid).await? } else { None };
    found.ok_or_else(|| Fault::not_found(sid))
}

/// An account's row. Texts that no sid can be find nothing.
pub async fn find(
    view: &View,
    account: &Account,
    kind: Kind,
    parent: &str,
    sid: &str,
) -> Result<Option<Resource>, Fault> {
    if !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    let new = unwritten(kind, view, account).into_iter().find(|row| row.sid == sid);
    let found =
        view.store.fetch(&account.sid.to_string(), kind, parent, sid).await.map_err(|_| Fault::store_is_away())?;
    Ok(found.or(new))
}

/// Rows that are there and not in the store yet. Looked at before the store is: what is written meanwhile is then in both,
/// and not in neither.
fn unwritten(kind: Kind, view: &View, account: &Account) -> Vec<Resource> {
    if kind == Kind::Queue { queues::unwritten(view, account) } else { Vec::new() }
}

/// What a form names by its sid is there, and the account's.
pub async fn check_sids(view: &View, account: &Account, form: &Form, fields: &[Field]) -> Result<(), Fault> {
    for field in fields {
        let (Shape::Sid(kind, code), Some(sid)) = (&field.shape, form.text(field.param)) else { continue };
        if find(view, account, *kind, "", sid).await?.is_none() {
            return Err(Fault::parameter(*code, format!("{} {sid} is not of this account", field.param)));
        }
    }
    Ok(())
}

/// What a row says.
pub fn detail(row: &Resource) -> Map<String, Value> {
    serde_json::from_str(&row.detail).unwrap_or_default()
}

/// `2026-11-21T22:00:00Z`.
pub fn iso_8601(wall_ms: u64) -> String {
    use time::macros::format_description;
    let seconds = i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX);
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    time.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).unwrap_or_default()
}

/// The paths of a resource's parts, as the SDKs find them.
pub fn parts(row: &Resource, path: &str, names: &[(&str, &str)]) -> Value {
    let of = |part: &str| format!("/2010-04-01/Accounts/{}{path}/{}/{part}.json", row.account, row.sid);
    let all: HashMap<&str, String> = names.iter().map(|(name, part)| (*name, of(part))).collect();
    json!(all)
}
