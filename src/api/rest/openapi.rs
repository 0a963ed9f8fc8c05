//! `/openapi.json`: the API as it is served, made of the table of routes (OpenAPI 3.1).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Shape;
use super::table::{PAGING, Param, Route};

/// For everybody: it tells of the program, and of nobody's data.
pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| description(&super::table().routes).to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

fn description(routes: &[Route]) -> Value {
    let mut paths: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for route in routes {
        let operations = paths.entry(path_of(route)).or_default();
        operations.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dialtone",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The REST API of Dialtone, as the official twilio packages speak it. A parameter that is not named here is passed over.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"account": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "account": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The account's sid and its auth token, or the sid of an API key and its secret.",
                },
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["code", "message", "more_info", "status"],
                    "properties": {
                        "code": {"type": "integer", "description": "Twilio's error number."},
                        "message": {"type": "string"},
                        "more_info": {"type": "string", "format": "uri"},
                        "status": {"type": "integer", "description": "The HTTP status."},
                    },
                },
            },
        },
    })
}

/// The path as it is asked for: in `2010-04-01` that of one resource ends in `.json` too.
fn path_of(route: &Route) -> String {
    match route.path.starts_with("/2010-04-01") && route.path.ends_with('}') {
        true => format!("{}.json", route.path),
        false => route.path.clone(),
    }
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = named(&route.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if route.method == Method::GET {
        let paging = PAGING
            .iter()
            .filter(|_| route.is_list)
            .map(|name| json!({"name": name, "in": "query", "schema": schema_of_name(name)}));
        let filters =
            route.params.iter().map(|param| json!({"name": param.name, "in": "query", "schema": schema(param)}));
        parameters.extend(filters.chain(paging));
    }
    let (status, text) = match route.method {
        Method::DELETE => ("204", "It is deleted."),
        Method::POST if is_list_path(route) => ("201", "It is made."),
        _ => ("200", "What was asked for."),
    };
    let mut success = json!({"description": text});
    if status != "204" {
        success["content"] = json!({"application/json": {"schema": {"type": "object"}}});
    }
    let error = json!({
        "description": "Why not.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    });
    let mut operation = json!({
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": {status: success, "default": error},
    });
    if route.method == Method::POST && !route.params.is_empty() {
        let properties: BTreeMap<&str, Value> = route.params.iter().map(|param| (param.name, schema(param))).collect();
        let mut form = json!({"type": "object", "properties": properties});
        let required: Vec<&str> =
            route.params.iter().filter(|param| param.is_required()).map(|param| param.name).collect();
        if is_list_path(route) && !required.is_empty() {
            form["required"] = json!(required);
        }
        operation["requestBody"] = json!({"content": {"application/x-www-form-urlencoded": {"schema": form}}});
    }
    operation
}

/// `post_Calls`, `get_Calls_sid_Recordings_name`.
fn operation_id(route: &Route) -> String {
    let path = route.path.strip_prefix("/2010-04-01").unwrap_or(&route.path);
    let path = path.strip_prefix("/Accounts/{account}").filter(|rest| !rest.is_empty()).unwrap_or(path);
    let parts = path.trim_end_matches(".json").split('/').filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.map(|part| part.trim_matches(['{', '}'])).collect();
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), parts.join("_"))
}

/// What stands in braces.
fn named(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn is_list_path(route: &Route) -> bool {
    !route.path.ends_with('}')
}

fn schema(param: &Param) -> Value {
    let mut schema = match param.shape() {
        None => schema_of_name(param.name),
        Some(Shape::Text(longest)) => json!({"type": "string", "maxLength": longest}),
        Some(Shape::Url) => json!({"type": "string", "format": "uri"}),
        Some(Shape::Method) => json!({"type": "string", "enum": ["GET", "POST"]}),
        Some(Shape::Flag) => json!({"type": "boolean"}),
        Some(Shape::Number(range)) => json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}),
        Some(Shape::OneOf(values)) => json!({"type": "string", "enum": values}),
        Some(Shape::Sid(..)) => json!({"type": "string", "minLength": 34, "maxLength": 34}),
    };
    if param.is_idle() {
        schema["description"] = json!("Kept and shown; it has no effect.");
    }
    schema
}

/// Twilio's names tell what is in them.
fn schema_of_name(name: &str) -> Value {
    match name {
        _ if name.ends_with("Event") => json!({"type": "array", "items": {"type": "string"}}),
        _ if name.ends_with("Method") => json!({"type": "string", "enum": ["GET", "POST"]}),
        _ if name.ends_with("Url") || name.ends_with("Callback") => json!({"type": "string", "format": "uri"}),
        "Timeout" | "TimeLimit" | "PageSize" | "Page" | "MaxParticipants" | "Ttl" => {
            json!({"type": "integer", "minimum": 0})
        }
        _ => json!({"type": "string"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_tells_of_every_route_and_what_it_reads() {
        let routes = super::super::table().routes;
        let made = description(&routes);
        let operations: usize =
            made["paths"].as_object().unwrap().values().map(|it| it.as_object().unwrap().len()).sum();
        assert_eq!(operations, routes.len());
        let at = |path: &str| &made["paths"][format!("/2010-04-01/Accounts/{{account}}{path}")];
        let form = &at("/Calls.json")["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(form["properties"]["Timeout"]["type"], "integer");
        assert_eq!(form["properties"]["StatusCallbackEvent"]["type"], "array");
        let queue =
            &at("/Queues.json")["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(queue["required"], json!(["FriendlyName"]));
        assert_eq!(queue["properties"]["MaxSize"]["maximum"], 5_000);
        assert!(at("/Calls/{sid}.json")["delete"]["responses"]["204"].is_object());
        let names: Vec<&Value> = at("/Calls/{sid}/Recordings/{name}.json")["get"]["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, ["account", "sid", "name"]);
        let mut ids: Vec<String> = routes.iter().map(operation_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), routes.len(), "names of operations are used once");
    }
}
