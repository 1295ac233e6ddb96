//! The document that describes the API, and the page that shows it.

use std::path::Path;

use tollgate_tests::Rig;

use super::Http;

/// A change of the API shows here: `UPDATE_OPENAPI=1 cargo test -p tollgate-tests --test http`.
#[tokio::test]
async fn the_document_is_as_it_was_agreed() {
    let rig = Rig::start().await;
    let answer = Http::of(&rig).get("/openapi.json").await;
    let document = answer.ok();
    assert_eq!(document["openapi"], "3.1.0");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let now = format!("{}\n", answer.body);
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &now).expect("written");
    }
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(agreed == now, "docs/openapi.json is another one: UPDATE_OPENAPI=1 writes it");
}

#[tokio::test]
async fn the_page_needs_no_network() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let page = http.get("/swagger").await;
    assert_eq!(page.status, 200, "the client follows to /swagger/");
    assert!(page.header("content-security-policy").contains("default-src 'self'"), "{page:?}");
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.body.contains(file), "the page uses {file}");
        assert_eq!(http.get(&format!("/swagger/{file}")).await.status, 200);
    }
    let initializer = http.get("/swagger/swagger-initializer.js").await.body;
    assert!(initializer.contains("/openapi.json"), "{initializer}");
}
