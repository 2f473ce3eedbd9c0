//! Tests that end in each way in which Rust's tests end.

#[test]
fn passes() {}

#[test]
fn fails() {
    println!("printed");
    assert_eq!(1, 2, "the number of maps");
}

#[test]
#[ignore = "needs 5.17"]
fn ignored() {}

#[test]
#[should_panic]
fn should() {}

#[test]
#[should_panic(expected = "x")]
fn should_ok() {
    panic!("x");
}

#[test]
fn result() -> Result<(), String> {
    Err("no such map".into())
}

#[test]
fn dies() {
    if std::env::var("DIE").is_ok() {
        std::process::abort()
    }
}
