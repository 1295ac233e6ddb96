//! The README's first command: it shows what is promised, and ends by itself.

use tollgate_tests::process::{run_with, tollgate};

#[test]
fn the_demo_keeps_every_promise_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let temporary = dir.path().join("tmp");
    std::fs::create_dir(&temporary).expect("a directory");
    // What it leaves behind is left there.
    let ran = run_with(tollgate(dir.path()).arg("demo").env("TMPDIR", &temporary), "");
    let ran = ran.ends_with(0);
    assert!(ran.stdout.contains("kept, in"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("broken"), "{}", ran.stdout);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    for dir in [temporary.as_path(), dir.path()] {
        let left: Vec<_> = std::fs::read_dir(dir)
            .expect("the directory")
            .map(|e| e.expect("an entry").path())
            .filter(|path| *path != temporary)
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}
