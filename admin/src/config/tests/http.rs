//! The web server.

use super::*;

/// [`LEAST`] with `http` in front, and a card for management.
fn served(http: &str) -> String {
    let text = LEAST.replacen("[\"replication\"]", "[\"replication\", \"management\"]", 1);
    format!("{http}{text}")
}

#[track_caller]
fn mistake_in(text: &str) -> String {
    let errors = parse(text).expect_err(text);
    assert_eq!(errors.count(), 1, "{errors}");
    errors.problems()[0].to_string()
}

#[test]
fn it_is_off_unless_there_is_a_section() {
    assert_eq!(parse(LEAST).unwrap().http, None);
    let config = parse(&served("[http]\n")).unwrap();
    let port = HTTP_PORT;
    assert_eq!(config.http, Some(Http { port, token: None }));
    assert!(config.is_default("http.port"));
}

#[test]
fn it_reads_back() {
    let config = parse(&served("[http]\nport = 80\n")).unwrap();
    let mut rendered = String::new();
    config.render(&mut rendered).unwrap();
    assert!(rendered.contains("\n[http]\nport = 80\n"), "{rendered}");
    let mut again = parse(&rendered).unwrap();
    again.defaulted.clone_from(&config.defaulted);
    assert_eq!(again, config);
}

#[test]
fn a_token_is_a_secret_and_one_of_its_own() {
    let config = parse(&served("[http]\ntoken = \"correct-horse-battery\"\n")).unwrap();
    let token = config.http.as_ref().and_then(|http| http.token.clone());
    assert_eq!(token.expect("a token").as_bytes(), b"correct-horse-battery");
    let mut rendered = String::new();
    config.render(&mut rendered).unwrap();
    assert!(rendered.contains("token = \"(set)\""), "{rendered}");
    assert!(!rendered.contains("horse") && !format!("{config:?}").contains("horse"));
    for (bad, found) in [
        ("\"fifteen-letters\"", "; it has 15"),
        ("\"correct horse battery\"", "; it has 21"),
        ("7", ""),
    ] {
        let told = mistake_in(&served(&format!("[http]\ntoken = {bad}\n")));
        let expected = format!(
            "line 2, column 9: http: token: expected 16 to 128 printable ASCII characters without blanks in quotes{found}"
        );
        assert!(told.starts_with(&expected), "{told}");
        assert!(
            !told.contains("letters") && !told.contains("horse"),
            "{told}"
        );
    }
    let same = served("[http]\ntoken = \"correct-horse-battery\"\n").replacen(
        "[peer]",
        "[peer]\nsecret = \"correct-horse-battery\"",
        1,
    );
    let told = mistake_in(&same);
    assert!(
        told.contains("http: token: it is the secret of [peer]"),
        "{told}"
    );
    assert!(!told.contains("horse"), "{told}");
}

#[test]
fn it_needs_a_card_and_a_port_of_its_own() {
    let told = mistake_in(&format!("[http]\n{LEAST}"));
    assert!(
        told.starts_with("line 1, column 1: http: no [[nic]] has the role \"management\""),
        "{told}"
    );
    let told = mistake_in(&served("[http]\nport = 7789\n"));
    assert!(
        told.contains(
            "line 2, column 8: http: port: found 7789, which is the replication's on the same card"
        ),
        "{told}"
    );
    let on_default = served("[http]\n[replication]\nport = 7791\n");
    let told = mistake_in(&on_default);
    assert!(
        told.starts_with("line 1, column 1: http: port: found 7791, which is the replication's"),
        "{told}"
    );
    let shared = LEAST.replacen("[\"export\"]", "[\"export\", \"management\"]", 1);
    let told = mistake_in(&format!("[http]\nport = 10809\n{shared}"));
    assert!(
        told.contains("which is the export's on the same card"),
        "{told}"
    );
}
