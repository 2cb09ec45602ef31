//! Handler scripts: exit codes, environment, those that hang, babble or say nothing, and DRBD's own.

use crate::rig::{Daemon, Node, Place, fence, holder, name};
use fencing::{Answer, Event, Refusal, Request};
use std::path::Path;
use std::time::{Duration, Instant};

/// A place whose resource has these handlers.
fn place(test: &str, handlers: &[(&str, &str)], more: &str) -> Place {
    let handlers: Vec<String> = handlers
        .iter()
        .map(|(name, command)| format!("{name} = {command:?}"))
        .collect();
    let handlers = handlers.join("\n");
    let text = format!("{more}\n[resource.handlers]\n{handlers}\n");
    Place::with(test, &text)
}

fn fence_with(episode: u64, up_to_date: bool, force: bool) -> Request {
    Request::Fence {
        vouched: 0,
        episode,
        released: 0,
        up_to_date,
        force,
    }
}

fn refused(episode: u64, why: Refusal) -> Answer {
    Answer::Refused { episode, why }
}

fn notify(number: u64, event: Event, volume: Option<u8>) -> Request {
    Request::Notify {
        number,
        event,
        volume,
    }
}

#[test]
fn exit_codes_grant_or_refuse_as_drbd_says() {
    let place = Place::empty("codes");
    let code = place.0.join("code");
    let ran = place.0.join("ran");
    let command = format!(
        "echo $PALISADE_EPISODE >> {}; exit $(cat {})",
        ran.display(),
        code.display()
    );
    let more = format!("[resource.handlers]\nfence-peer = {command:?}\n");
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    let mut episode = 0;
    for (exit, up_to_date, why) in [
        (3, false, None),
        (4, false, None),
        (7, false, None),
        (5, true, None),
        (5, false, Some(Refusal::Handler(5))),
        (6, true, Some(Refusal::Primary)),
        (0, true, Some(Refusal::Handler(0))),
        (1, true, Some(Refusal::Handler(1))),
        (127, true, Some(Refusal::Handler(127))),
    ] {
        episode += 1;
        std::fs::write(&code, exit.to_string()).expect("the code");
        let answer = a.told(daemon.address, fence_with(episode, up_to_date, false));
        let held = holder(&mut a, daemon.address);
        match why {
            None => {
                assert_eq!(answer, Answer::Granted { episode }, "{exit}");
                assert_eq!(held, Some((name("a"), episode)));
                // Asked again, it is granted without being run again.
                a.told(daemon.address, fence_with(episode, up_to_date, false));
            }
            Some(why) => {
                assert_eq!(answer, refused(episode, why), "{exit}");
                assert_eq!(held, None);
                daemon.logged(&format!("refused FENCE a {episode}: "));
                // Asked again at once, it is refused without being run again.
                a.told(daemon.address, fence_with(episode, up_to_date, false));
            }
        }
        daemon.logged(&format!("fence-peer: exit code {exit} after"));
        a.told(
            daemon.address,
            Request::Unfence {
                episode,
                vouched: 0,
            },
        );
    }
    daemon.logged("exit code 0 does not say that the peer is fenced");
    let ran = place.read("ran");
    assert_eq!(
        ran.lines()
            .map(|l| l.parse().expect("a number"))
            .collect::<Vec<u64>>(),
        (1..=episode).collect::<Vec<_>>()
    );
}

#[test]
fn a_handler_that_hangs_is_killed_and_grants_nothing() {
    let place = place(
        "hang",
        &[("fence-peer", "trap '' TERM; sleep 600")],
        "handler-timeout = 1",
    );
    let daemon = Daemon::start(&place);
    let (mut a, mut b) = (Node::new("a", 1, 0), Node::new("b", 2, 0));
    let begun = Instant::now();
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused(1, Refusal::Handler(255))
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let line = daemon.logged("fence-peer: killed");
    assert!(line.contains("handler-timeout = 1"), "{line}");
    assert_eq!(holder(&mut b, daemon.address), None);
    assert_eq!(place.journal(), [""; 0]);
}

#[test]
fn one_that_prints_megabytes_is_read_and_cut_in_the_log() {
    let babble = "dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\\0' '\\n'; yes babble | head -c 1000000; exit 0";
    let place = place("babble", &[("fence-peer", babble)], "");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused(1, Refusal::Handler(0))
    );
    daemon.logged("fence-peer: | ... it printed 5194304 bytes");
    assert!(daemon.log().len() < 60 && daemon.log().concat().len() < 20_000);
    assert_eq!(holder(&mut a, daemon.address), None);
}

#[test]
fn one_that_is_missing_or_crashes_grants_nothing() {
    let place = place("missing", &[("fence-peer", "/no/such/program")], "");
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused(1, Refusal::Handler(127))
    );
    daemon.logged("not found");
    assert_eq!(holder(&mut a, daemon.address), None);
}

/// The handler of a fence is not run for a node that is refused anyway, nor that of an unfence for what is not in force.
#[test]
fn handlers_run_for_what_changes_and_in_turn() {
    let place = Place::empty("turn");
    let trace = place.0.join("trace");
    let command = |code: u8| {
        let trace = trace.display();
        format!(
            "echo begin $PALISADE_HANDLER $PALISADE_EPISODE >> {trace}; sleep 0.2; echo end $PALISADE_HANDLER $PALISADE_EPISODE >> {trace}; exit {code}"
        )
    };
    let more = format!(
        "[resource.handlers]\nfence-peer = {:?}\nunfence-peer = {:?}\n",
        command(4),
        command(1)
    );
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    let daemon = Daemon::start(&place);
    let (mut a, mut b) = (Node::new("a", 1, 0), Node::new("b", 2, 0));
    let to = daemon.address;
    let asked = std::thread::spawn(move || (b.told(to, fence(1)), b));
    let first = a.told(to, fence(1));
    let (second, mut b) = asked.join().expect("asked");
    // Both asked with the same number at once: one is granted, and only for that one the handler ran.
    let granted = Answer::Granted { episode: 1 };
    assert!(
        (first == granted) != (second == granted),
        "{first:?} {second:?}"
    );
    let (winner, loser) = if first == granted {
        (&mut a, &mut b)
    } else {
        (&mut b, &mut a)
    };
    assert_eq!(
        winner.told(
            to,
            Request::Unfence {
                episode: 1,
                vouched: 0
            }
        ),
        Answer::Released { episode: 1 }
    );
    winner.told(
        to,
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
    );
    loser.told(
        to,
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
    );
    winner.told(to, fence(2));
    let expected = "begin fence-peer 1\nend fence-peer 1\nbegin unfence-peer 1\nend unfence-peer 1\nbegin fence-peer 2\nend fence-peer 2\n";
    assert_eq!(place.read("trace"), expected);
    // An unfence handler that fails keeps no fence alive.
    daemon.logged("unfence-peer: exit code 1");
}

/// The operator's word is stored whatever the handler says, for that node goes on in any case.
#[test]
fn force_is_recorded_even_if_the_handler_fails() {
    let place = place("force", &[("fence-peer", "exit 1")], "");
    let daemon = Daemon::start(&place);
    let (mut a, mut b) = (Node::new("a", 1, 0), Node::new("b", 2, 0));
    assert_eq!(
        a.told(daemon.address, fence_with(1, false, true)),
        Answer::Granted { episode: 1 }
    );
    daemon.logged("fence-peer: exit code 1");
    let held = Refusal::Held {
        holder: name("a"),
        episode: 1,
    };
    assert_eq!(b.told(daemon.address, fence(2)), refused(2, held));
}

#[test]
fn events_run_their_handlers_once_with_drbds_environment() {
    let place = Place::empty("events");
    let seen = place.0.join("seen");
    let dump = format!(
        "env | sort >> {}; echo x >> {}.count; exit 3",
        seen.display(),
        seen.display()
    );
    let more = format!(
        "volumes = [0, 4]\naddresses = [\"10.99.0.1\", \"10.99.0.2\"]\n[resource.handlers]\nbefore-resync-target = {dump:?}\nsplit-brain = {:?}\n[resource.environment]\nEXTRA = \"more than one word\"\n",
        "exit 0"
    );
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    let daemon = Daemon::start(&place);
    let mut b = Node::new("b", 2, 0);
    let before = notify(1, Event::BeforeResyncTarget, Some(4));
    let handled = |number, code| Answer::Handled { number, code };
    assert_eq!(b.told(daemon.address, before), handled(1, 3));
    assert_eq!(b.told(daemon.address, before), handled(1, 3));
    assert_eq!(place.read("seen.count"), "x\n");
    let seen = place.read("seen");
    for line in [
        "DRBD_RESOURCE=r0",
        "DRBD_VOLUME=4",
        "DRBD_CSTATE=WFBitMapT",
        "DRBD_MY_NODE_ID=1",
        "DRBD_PEER_NODE_ID=0",
        "DRBD_NODE_ID_0=a",
        "DRBD_NODE_ID_1=b",
        "DRBD_PEER=a",
        "DRBD_MY_ADDRESS=10.99.0.2",
        "DRBD_PEER_ADDRESS=10.99.0.1",
        "DRBD_PEER_AF=ipv4",
        "EXTRA=more than one word",
        "PALISADE_HANDLER=before-resync-target",
    ] {
        assert!(
            seen.lines().any(|seen| seen == line),
            "no {line} in\n{seen}"
        );
    }
    // Nothing of the arbiter's own environment but PATH: a secret in it is not the handlers' business.
    assert!(!seen.contains("CARGO"), "{seen}");
    daemon.logged("before-resync-target for b, volume 4: running");
    // Another life of the node, and an event without a handler.
    let mut again = Node::new("b", 3, 0);
    assert_eq!(again.told(daemon.address, before), handled(1, 3));
    assert_eq!(place.read("seen.count"), "x\nx\n");
    assert_eq!(
        again.told(daemon.address, notify(2, Event::OutOfSync, Some(0))),
        handled(2, 0)
    );
    assert_eq!(
        again.told(daemon.address, notify(3, Event::SplitBrain, None)),
        handled(3, 0)
    );
    assert_eq!(place.journal(), [""; 0]);
}

/// An arbiter that was killed while a handler ran does not run another one beside it.
#[test]
fn a_handler_that_outlives_its_arbiter_is_waited_for() {
    let place = Place::empty("orphan");
    let go = place.0.join("go");
    let command = format!(
        "echo began; while [ ! -e {} ]; do sleep 0.05; done; exit 4",
        go.display()
    );
    let more = format!("[resource.handlers]\nfence-peer = {command:?}\n");
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    let mut a = Node::new("a", 1, 0);
    let daemon = Daemon::start(&place);
    assert_eq!(
        a.ask(daemon.address, fence(1), Duration::from_millis(300)),
        None
    );
    daemon.logged("running");
    drop(daemon);
    let daemon = Daemon::start(&place);
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused(1, Refusal::Handler(255))
    );
    daemon.logged("a handler of an earlier life of this arbiter still runs, process group");
    std::fs::write(&go, "").expect("its end");
    // A new number is not held back by the pause after a failure.
    let begun = Instant::now();
    let mut episode = 2;
    while a.told(daemon.address, fence(episode)) != (Answer::Granted { episode }) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        episode += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nor does it wait for ever: one that hangs ends in its time even without an arbiter.
#[test]
fn a_handler_that_hangs_ends_without_its_arbiter() {
    let place = place(
        "orphan-hang",
        &[("fence-peer", "trap '' TERM; sleep 600")],
        "handler-timeout = 1",
    );
    let mut a = Node::new("a", 1, 0);
    let daemon = Daemon::start(&place);
    let patience = Duration::from_millis(300);
    assert_eq!(a.ask(daemon.address, fence(1), patience), None);
    daemon.logged("running");
    drop(daemon);
    let daemon = Daemon::start(&place);
    let begun = Instant::now();
    let mut episode = 1;
    // Killed by this arbiter: so its handler ran, and the one before had ended.
    let killed = |line: &String| line.contains("fence-peer: killed");
    while !daemon.log().iter().any(killed) {
        assert!(begun.elapsed() < Duration::from_secs(30));
        let why = Refusal::Handler(255);
        assert_eq!(
            a.told(daemon.address, fence(episode)),
            refused(episode, why)
        );
        episode += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.logged("a handler of an earlier life of this arbiter still runs");
}

const CRM: &str = "/usr/lib/drbd/crm-fence-peer.9.sh";

/// Debian's own script for Pacemaker, with a cluster that is played by small programs: it takes our environment, finds the
/// resource in the cluster's configuration, and bans the peer; without a cluster it says so, and nothing is granted.
#[test]
fn drbds_own_script_for_pacemaker_takes_our_environment() {
    if !Path::new(CRM).exists() {
        println!("skipped: {CRM} is not there (apt-get install drbd-utils)");
        return;
    }
    let place = Place::empty("crm");
    let dir = place.0.display().to_string();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/arbiter");
    let more = format!(
        "[resource.handlers]\nfence-peer = \"bash -x {CRM} --timeout 2 --dc-timeout 1 --lock-dir={dir}\"\nunfence-peer = \"bash -x {UNFENCE} --lock-dir={dir}\"\n[resource.environment]\nPATH = \"{dir}:{examples}:/usr/sbin:/usr/bin:/sbin:/bin\"\n",
        UNFENCE = CRM.replace("crm-fence", "crm-unfence"),
    );
    place.configure(&format!("store = {:?}", place.0.join("store.redb")), &more);
    let daemon = Daemon::start(&place);
    let mut a = Node::new("a", 1, 0);
    // No cluster.
    place.script(
        "cibadmin",
        "#!/bin/sh\necho 'Could not connect to the CIB' >&2\nexit 102\n",
    );
    assert_eq!(
        a.told(daemon.address, fence(1)),
        refused(1, Refusal::Handler(1))
    );
    assert_eq!(holder(&mut a, daemon.address), None);
    a.told(
        daemon.address,
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
    );
    // One whose node b is online, and that notes what it is told.
    play_cluster(&place);
    assert_eq!(
        a.told(daemon.address, fence(2)),
        Answer::Granted { episode: 2 },
        "{:#?}",
        daemon.log()
    );
    daemon.logged("fence-peer: exit code 4");
    let constraint = place.read("constraint");
    assert!(constraint.contains("rsc=\"ms_r0\""), "{constraint}");
    assert!(
        constraint.contains("drbd-fence-by-handler-r0"),
        "{constraint}"
    );
    // All but a are banned.
    assert!(
        constraint.contains("operation=\"ne\" value=\"a\""),
        "{constraint}"
    );
    a.told(
        daemon.address,
        Request::Unfence {
            episode: 2,
            vouched: 0,
        },
    );
    daemon.logged("unfence-peer: exit code 0");
    assert!(
        place
            .read("deleted")
            .contains("drbd-fence-by-handler-r0-ms_r0"),
        "{:#?}",
        daemon.log()
    );
}

/// Programs with the names of Pacemaker's, and as much of their manners as the script relies on.
fn play_cluster(place: &Place) {
    let dir = place.0.display();
    let cib = r#"<cib crm_feature_set="3.16.2" admin_epoch="0" epoch="1" num_updates="1" have-quorum="1">
<configuration>
<crm_config>
<cluster_property_set id="p">
<nvpair id="p1" name="stonith-enabled" value="true"/>
</cluster_property_set>
</crm_config>
<nodes>
<node id="1" uname="a"/>
<node id="2" uname="b"/>
</nodes>
<resources>
<clone id="ms_r0">
<primitive id="p_r0" class="ocf" provider="linbit" type="drbd">
<instance_attributes id="i">
<nvpair id="i1" name="drbd_resource" value="r0"/>
</instance_attributes>
</primitive>
</clone>
</resources>
<constraints>
CONSTRAINT
</constraints>
</configuration>
<status>
<node_state id="2" uname="b" in_ccm="true" crmd="online" join="member" expected="member"/>
</status>
</cib>"#;
    std::fs::write(place.0.join("cib"), cib).expect("a cluster");
    place.script("cibadmin", &format!(
        "#!/bin/sh\ncase \" $* \" in\n*' -Q'*) c=; [ -e {dir}/constraint ] && c=$(cat {dir}/constraint); awk -v c=\"$c\" '/^CONSTRAINT$/ {{ if (c != \"\") print c; next }} {{ print }}' {dir}/cib ;;\n*' -D '*) echo \"$*\" > {dir}/deleted; rm -f {dir}/constraint ;;\n*' --patch '*) cat > /dev/null; cp {dir}/wanted {dir}/constraint ;;\n*) for last; do :; done; printf '%s\\n' \"$last\" > {dir}/wanted ;;\nesac\n"
    ));
    place.script("crm_mon", "#!/bin/sh\necho '<crm_mon><summary><current_dc present=\"true\" with_quorum=\"true\"/></summary></crm_mon>'\n");
    place.script(
        "crmadmin",
        "#!/bin/sh\necho 'Controller on b in state S_NOT_DC: ok'\n",
    );
    place.script("crm_node", "#!/bin/sh\necho 1\n");
    place.script("crm_diff", "#!/bin/sh\necho '<diff/>'\n");
    place.script("crm_attribute", "#!/bin/sh\nexit 1\n");
    place.script("logger", "#!/bin/sh\nexec cat >/dev/null\n");
}
