//! The table of who may ask what, against the routes there are.

use std::collections::BTreeSet;

use super::{access::ROWS, openapi::operations, router::routes};

/// Routes that the document does not describe: itself, and the page that shows it.
const UNDESCRIBED: &[&str] = &["/openapi.json", "/swagger", "/swagger/", "/swagger/{*file}"];

#[test]
fn every_route_has_one_row_and_every_row_a_route() {
    let (_, mut document) = routes();
    let mut described = BTreeSet::new();
    for (path, item) in &mut document.paths.paths {
        described.extend(operations(item).map(|(method, _)| (path.clone(), method)));
    }
    let mut rows = BTreeSet::new();
    for row in ROWS.iter().filter(|row| !UNDESCRIBED.contains(&row.path)) {
        assert!(rows.insert((row.path.to_owned(), row.method)), "{row:?} is there twice");
    }
    assert_eq!(described, rows, "the routes that are described, and the rows of `access`");
}

#[test]
fn every_operation_says_for_whom_it_is_and_how_it_fails() {
    let (_, mut document) = routes();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let about = operation.description.clone().unwrap_or_default();
            assert!(about.contains("For "), "{method} {path}: {about}");
            assert!(operation.responses.responses.contains_key("400"), "{method} {path}");
        }
    }
}
