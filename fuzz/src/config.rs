//! The configuration: what is refused is explained in the text's own lines; what is accepted reads back
//! to the same after `config show` printed it.

use crate::Target;
use admin::config::{Config, PROBLEMS_MAX};

/// Input: the configuration's text.
pub const TARGET: Target = Target {
    name: "config",
    max_len: 4096,
    run,
    seeds,
};

/// Everything but the memory of what was left out, and the secret, which is not shown.
fn values(config: &Config) -> String {
    let mut peer = config.peer.clone();
    peer.secret = None;
    let Config {
        node,
        resource,
        peer: _,
        net,
        nics,
        replication,
        resync,
        disk,
        export,
        volumes,
        ..
    } = config;
    format!(
        "{node:?} {resource:?} {peer:?} {net:?} {nics:?} {replication:?} {resync:?} {disk:?} {export:?} {volumes:?}"
    )
}

fn run(data: &[u8]) {
    match Config::parse(data) {
        Ok(config) => {
            // Sound means that nothing which is worked out from it panics.
            let _ = (config.replication_listen(), config.timers());
            let mut shown = String::new();
            config.render(&mut shown).expect("a string takes all");
            let shown = shown.replacen(
                "\nsecret = \"(set)\"",
                "\nsecret = \"correct horse battery\"",
                1,
            );
            let again = match Config::parse(shown.as_bytes()) {
                Ok(again) => again,
                Err(errors) => panic!("`config show` does not read back: {errors}\n{shown}"),
            };
            assert_eq!(values(&again), values(&config), "{shown}");
        }
        Err(errors) => {
            let text = errors.to_string();
            let visible = |c: char| c == '\n' || (' '..='~').contains(&c);
            assert!(!text.is_empty() && text.chars().all(visible), "{text:?}");
            assert!(text.lines().count() <= 4 * PROBLEMS_MAX + 4, "{text}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = [
        include_str!("../../examples/a.toml"),
        include_str!("../../examples/b.toml"),
    ];
    let broken = [
        "[node]\nname = \"a\"\npanic = \"explode\"\n",
        "[[volume]]\nindex = 0\nserial = \"\\u00e9\"\nsize = \"12 MB\"\n",
        "[net]\ntimeout = \"500ms\"\nping-interval = \"1h\"\nconnect-interval = 5\n",
        "[[nic]]\nroles = [\"export\", \"export\"]\nmac = \"52:54:00:00:01:01\"\nindex = 1\nmtu = 9000\n",
        "[peer]\nname = \"b\"\nsecret = \"correct horse battery\"\nintegrity = \"aes-256-gcm\"\n",
        "a.b.c = { d = [1, 2.5e3, 0x10, 1979-05-27T07:32:00Z, true, '''x\n'''] }\n",
    ];
    let secret = whole[0].replace("[peer]", "[peer]\nsecret = \"correct horse battery\"");
    let all = whole.iter().chain(&broken);
    let all = all.map(|text| text.as_bytes().to_vec());
    all.chain([secret.into_bytes()]).collect()
}
