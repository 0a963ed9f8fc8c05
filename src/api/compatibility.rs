//! `/compatibility`: COMPATIBILITY.md of this version, as a page for people.

use std::sync::LazyLock;

use axum::response::Html;
use pulldown_cmark::{Options, Parser, html};

const MARKDOWN: &str = include_str!("../../COMPATIBILITY.md");

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dialtone: compatibility with Twilio's voice API</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #dcdfe4; }
td:first-child { min-width: 16rem; overflow-wrap: anywhere; }
th { position: sticky; top: 0; background: #f4f5f7; }
tr:hover td { background: #fafbfc; }
code { font: 13px ui-monospace, monospace; background: #f0f1f3; border-radius: 3px; padding: 0 .25em; }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #e4e6ea; }
  th, code { background: #24272c; }
  th, td { border-color: #34383f; }
  tr:hover td { background: #1d2024; }
}
</style></head><body>
"#;

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let mut page = HEAD.to_owned();
    html::push_html(&mut page, Parser::new_ext(MARKDOWN, Options::ENABLE_TABLES));
    page + "</body></html>\n"
});

/// For everybody: it says nothing of any account.
pub(super) async fn page() -> Html<&'static str> {
    Html(&PAGE)
}
