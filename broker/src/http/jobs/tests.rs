//! What a filter means, and from where a reader goes on.

use super::{act::Filter, follow::Params};

#[test]
fn nothing_is_meant_by_leaving_everything_out() {
    let which = |text: &str| {
        let filter: Filter = serde_json::from_str(text).expect(text);
        filter.which()
    };
    for text in ["{}", r#"{"state":[]}"#, r#"{"all":false}"#, r#"{"all":true,"recipe":"echo"}"#] {
        assert!(which(text).is_err(), "{text}");
    }
    assert_eq!(which(r#"{"all":true}"#).expect("all").states, 0);
    let dead = which(r#"{"state":["dead","failed"],"recipe":"echo"}"#).expect("some");
    assert_eq!(dead.states, 0b101_0000);
    assert_eq!(dead.recipe.expect("one").as_str(), "echo");
    assert!(which(r#"{"batch":"x"}"#).is_err() && which(r#"{"recipe":""}"#).is_err());
}

#[test]
fn a_reader_goes_on_after_a_number() {
    let after = |text: &str| {
        let params = serde_json::json!({ "after": text });
        serde_json::from_value::<Params>(params).expect("text").after()
    };
    let number = after("7.12").expect("a number");
    assert_eq!((number.epoch, number.sequence), (7, 12));
    for wrong in ["", "7", "7.", ".7", "-1.2", "a.b", "1.2.3"] {
        assert!(after(wrong).is_err(), "{wrong}");
    }
}
