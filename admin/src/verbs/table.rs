//! The table of verbs.

use super::arguments::volume_index;
use crate::config::live;

/// Verbs that belong together in the list that `help` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Looking.
    Look,
    /// Roles, clients and the connection: for all volumes at once.
    Resource,
    /// A volume's disk and its data.
    Volume,
    /// Resync and verify.
    Copy,
    /// The machine.
    Machine,
}

/// The groups in the order of the list, with their headings.
pub(super) const GROUPS: &[(Group, &str)] = &[
    (Group::Look, "look"),
    (Group::Resource, "roles and the connection, for all volumes"),
    (Group::Volume, "disks and their data"),
    (Group::Copy, "resync and verify"),
    (Group::Machine, "this machine"),
];

/// A verb's line in the table of verbs.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The word itself.
    pub name: &'static str,
    /// How it is written, options included.
    pub usage: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// What `help VERB` says beyond the usage; lines of at most 78 characters.
    pub details: &'static str,
    /// Where the list has it.
    pub group: Group,
    /// The word that is no option.
    pub(super) operand: Operand,
    /// The options it knows; at most [`super::arguments::OPTIONS_MAX`].
    pub(super) options: &'static [Opt],
}

/// The word of a command that is no option; one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// None.
    None,
    /// A volume, required.
    Volume,
    /// A volume, or all of them.
    OptionalVolume,
    /// A number of lines.
    Lines,
    /// The number of a fence, required.
    Episode,
    /// A verb.
    Verb,
    /// A verb with what follows it, required.
    Command,
    /// A key of the configuration with its new value, behind `=` or as the next word.
    Setting,
    /// One of these very words, required.
    Words {
        /// All of them, as the list shows them.
        written: &'static str,
        /// Each by itself.
        words: &'static [&'static str],
    },
}

impl Operand {
    /// How the list shows it.
    pub(super) const fn written(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Volume => "VOL",
            Self::OptionalVolume => "[VOL]",
            Self::Lines => "[N]",
            Self::Episode => "EPISODE",
            Self::Verb => "[VERB]",
            Self::Command => "VERB",
            Self::Setting => "[KEY=VALUE]",
            Self::Words { written, .. } => written,
        }
    }

    /// Whether a word is of its form.
    pub(super) fn fits(self, word: &str) -> bool {
        match self {
            Self::None => false,
            Self::Volume | Self::OptionalVolume => volume_index(word).is_some(),
            Self::Lines | Self::Episode => word.bytes().all(|b| b.is_ascii_digit()),
            Self::Verb | Self::Command => spec(word).is_some(),
            Self::Setting => live::key(word.split('=').next().unwrap_or(word)).is_some(),
            Self::Words { words, .. } => words.contains(&word),
        }
    }
}

/// An option of a verb.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opt {
    /// With its dashes.
    pub(super) name: &'static str,
    /// Another name for it, which is understood but not offered.
    pub(super) alias: Option<&'static str>,
    /// Its value.
    pub(super) takes: Takes,
}

impl Opt {
    /// Whether a word is it, by either name.
    pub(super) fn is(&self, word: &str) -> bool {
        self.name == word || self.alias == Some(word)
    }
}

/// What follows an option, as the next word or behind `=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// A place on a volume, in bytes or with a unit.
    Offset,
    /// A level of the log.
    Level,
    /// The number of an event.
    Event,
}

impl Spec {
    /// How `help` writes the word that is no option, in brackets if it may be left out; empty if there is none.
    pub const fn operand(&self) -> &'static str {
        self.operand.written()
    }

    /// The options: name with its dashes, another name that is understood, and whether a value follows.
    pub fn options(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>, bool)> {
        let options = self.options.iter();
        options.map(|option| (option.name, option.alias, option.takes != Takes::Nothing))
    }

    /// Whether a word may stand behind the verb.
    pub(super) fn knows(&self, word: &str) -> bool {
        let mut options = self.options.iter();
        self.operand.fits(word) || options.any(|option| option.is(word))
    }
}

const fn flag(name: &'static str) -> Opt {
    Opt {
        name,
        alias: None,
        takes: Takes::Nothing,
    }
}

const fn with_value(name: &'static str, takes: Takes) -> Opt {
    Opt {
        name,
        alias: None,
        takes,
    }
}

const FORCE: Opt = flag("--force");

/// Of every verb that gives something up or cuts somebody off.
const DRY_RUN: Opt = flag("--dry-run");

/// The table's line of a verb.
pub fn spec(name: &str) -> Option<&'static Spec> {
    VERBS.iter().find(|spec| spec.name == name)
}

/// What users of DRBD may type, and what does it here.
pub(super) const OTHER_NAMES: &[(&str, &str)] = &[
    (
        "up",
        "a node attaches its disks and connects when it boots; by hand: 'attach VOL', 'connect'",
    ),
    ("down", "'secondary', 'disconnect' and 'detach VOL' do it"),
    (
        "net-options",
        "'set' lists what can be changed; 'set net.timeout=3s' changes it",
    ),
    (
        "disk-options",
        "'set' lists what can be changed; 'set disk.disk-timeout=30s' changes it",
    ),
    (
        "peer-device-options",
        "'set' lists what can be changed; 'set resync.c-max-rate=50MiB' changes it",
    ),
    (
        "resource-options",
        "'set' lists what can be changed; 'set resource.fence-timeout=30s' changes it",
    ),
    ("dump", "'config show' prints the configuration"),
    ("role", "'status' shows the roles"),
    ("cstate", "'status' shows the connection"),
    ("dstate", "'status' shows the disks"),
    ("events2", "'events' tells what becomes of the states"),
    ("show-gi", "'inspect' shows the generation identifiers"),
    ("get-gi", "'inspect' shows the generation identifiers"),
    ("dump-md", "'inspect' shows the metadata"),
    ("wipe-md", "'create-md VOL --force' writes fresh metadata"),
];

/// Every verb, in the order of the list that `help` prints.
pub const VERBS: &[Spec] = &[
    Spec {
        name: "help",
        usage: "help [VERB]",
        summary: "list the verbs, or explain one",
        details: "VERB --help does the same as help VERB.",
        group: Group::Look,
        operand: Operand::Verb,
        options: &[],
    },
    Spec {
        name: "status",
        usage: "status [--json]",
        summary: "roles, connection, disk states, resync, clients",
        details: "Shows this node first, then the peer as far as it is known.\n\
                  --json   one line of JSON; docs/CONSOLE.md lists its fields",
        group: Group::Look,
        operand: Operand::None,
        options: &[flag("--json")],
    },
    Spec {
        name: "events",
        usage: "events [--json] [--now] [--since N]",
        summary: "what becomes of the states, line by line",
        details: "Begins with what there is ('exists'), then tells what comes (create), becomes\n\
                  different (change) and goes (destroy), until q or Ctrl-C. Each line begins\n\
                  with the seconds since boot and the number of the event.\n\
                  --json   lines of JSON; docs/CONSOLE.md lists their fields\n\
                  --now    end after what is known now; a script's command always does\n\
                  --since  only what happened after the event with this number",
        group: Group::Look,
        operand: Operand::None,
        options: &[
            flag("--json"),
            flag("--now"),
            with_value("--since", Takes::Event),
        ],
    },
    Spec {
        name: "watch",
        usage: "watch VERB",
        summary: "show what a verb prints, again and again",
        details: "Each second, and whenever a state becomes different, until q or Ctrl-C. For\n\
                  verbs that only look, with their options, such as 'watch status'. At a\n\
                  terminal only: for scripts there is 'events'.",
        group: Group::Look,
        operand: Operand::Command,
        options: &[],
    },
    Spec {
        name: "explain",
        usage: "explain",
        summary: "why the last handshake with the peer ended as it did",
        details: "Per volume: the rule that decided who copies to whom, the generation\n\
                  identifiers, states and flags of both nodes that it looked at, the policies\n\
                  that were asked, and what followed. Also what a dry run since then found.\n\
                  'connect --dry-run' shows the same without acting on it.",
        group: Group::Look,
        operand: Operand::None,
        options: &[],
    },
    Spec {
        name: "inspect",
        usage: "inspect [VOL]",
        summary: "the metadata on a volume's disk",
        details: "Both superblocks, generation identifiers, flags, the activity log and the\n\
                  bitmap as the disk has them, and whether their checksums hold; of all\n\
                  volumes if none is named. Also of a disk that is not attached or damaged.",
        group: Group::Look,
        operand: Operand::OptionalVolume,
        options: &[],
    },
    Spec {
        name: "disks",
        usage: "disks",
        summary: "the disks that were found, and what uses them",
        details: "One line per disk: serial, volume, size, block size, features, traffic.",
        group: Group::Look,
        operand: Operand::None,
        options: &[],
    },
    Spec {
        name: "net",
        usage: "net",
        summary: "the network cards, their addresses and traffic",
        details: "Three lines per card: address, link and MTU; roles; the counters.",
        group: Group::Look,
        operand: Operand::None,
        options: &[],
    },
    Spec {
        name: "log",
        usage: "log [N] [--level LEVEL]",
        summary: "the newest log lines",
        details: "N        how many, 1 to 1000; 20 if left out\n\
                  --level  error, warn, info or debug: that and everything graver",
        group: Group::Look,
        operand: Operand::Lines,
        options: &[with_value("--level", Takes::Level)],
    },
    Spec {
        name: "config",
        usage: "config show | config check",
        summary: "the configuration in effect, as TOML",
        details: "show   what was left out is shown with its default and marked so; a secret is\n\
                  \x20      not shown. If it was refused, its mistakes are shown instead\n\
                  check  read the TOML that the node was started with again: every mistake, or\n\
                  \x20      that it is sound, and every device of it that is missing",
        group: Group::Look,
        operand: Operand::Words {
            written: "show|check",
            words: &["show", "check"],
        },
        options: &[],
    },
    Spec {
        name: "crash",
        usage: "crash show [--json] | crash clear",
        summary: "how this node last crashed, as it left word of it",
        details: "What a crash leaves outlasts a reset, and not that the machine is switched off.\n\
                  show    cause, place in the source, registers, backtrace, last log lines\n\
                  clear   forget it\n\
                  --json  one line of JSON; docs/CONSOLE.md lists its fields",
        group: Group::Look,
        operand: Operand::Words {
            written: "show|clear",
            words: &["show", "clear"],
        },
        options: &[flag("--json")],
    },
    Spec {
        name: "fence",
        usage: "fence",
        summary: "who fences whom, who granted it, what is waited for",
        details: "An episode is a fence: its number only grows. It is held from the grant until\n\
                  every volume is UpToDate on both nodes again.",
        group: Group::Look,
        operand: Operand::None,
        options: &[],
    },
    Spec {
        name: "version",
        usage: "version",
        summary: "version of the appliance and its peer protocol",
        details: "",
        group: Group::Look,
        operand: Operand::None,
        options: &[],
    },
    Spec {
        name: "primary",
        usage: "primary [--force] [--dry-run]",
        summary: "become Primary and serve clients",
        details: "Without --force only next to a connected Secondary and on UpToDate disks, or,\n\
                  with a policy that fences, when the peer or the arbiter grants the fence.\n\
                  --force  you vouch that this node's data is the one to go on with and that\n\
                  \x20        no other node serves clients: what only the peer has is lost\n\
                  \x20        when it comes back. Refused on a disk that is known to be\n\
                  \x20        Inconsistent, and next to a connected Primary",
        group: Group::Resource,
        operand: Operand::None,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "secondary",
        usage: "secondary [--force] [--dry-run]",
        summary: "stop serving clients",
        details: "Refused while clients have a volume open.\n\
                  --force  drop their connections; they reconnect when a node is Primary",
        group: Group::Resource,
        operand: Operand::None,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "connect",
        usage: "connect [--discard-my-data] [--dry-run]",
        summary: "look for the peer (again)",
        details: "--discard-my-data  after a split brain: what was written on this node alone\n\
                  \x20                  is lost; it becomes the target of a resync\n\
                  --dry-run          go as far as the decision who would copy to whom, say it\n\
                  \x20                  as 'explain' does, and disconnect again; DRBD's\n\
                  \x20                  --tentative is understood, too",
        group: Group::Resource,
        operand: Operand::None,
        options: &[
            flag("--discard-my-data"),
            Opt {
                name: "--dry-run",
                alias: Some("--tentative"),
                takes: Takes::Nothing,
            },
        ],
    },
    Spec {
        name: "disconnect",
        usage: "disconnect [--dry-run]",
        summary: "leave the peer and do not look for it",
        details: "A Primary goes on alone and notes what it writes. 'connect' ends this.",
        group: Group::Resource,
        operand: Operand::None,
        options: &[DRY_RUN],
    },
    Spec {
        name: "suspend-io",
        usage: "suspend-io [--dry-run]",
        summary: "hold clients' requests back, unanswered",
        details: "Clients see a disk that is slow, not an error. 'resume-io' ends this.",
        group: Group::Resource,
        operand: Operand::None,
        options: &[DRY_RUN],
    },
    Spec {
        name: "resume-io",
        usage: "resume-io [--dry-run]",
        summary: "let clients' requests go on",
        details: "Ends 'suspend-io', and the wait for a fence: the peer must surely be off then,\n\
                  or both nodes go on with data of their own. Requests that wait for good data\n\
                  (on-no-data) go on, too: those that no disk can serve get an error.",
        group: Group::Resource,
        operand: Operand::None,
        options: &[DRY_RUN],
    },
    Spec {
        name: "unfence",
        usage: "unfence EPISODE [--yes] [--dry-run]",
        summary: "end a fence by hand, this node's or the peer's",
        details: "Fences end by themselves when every volume is UpToDate on both nodes; this is\n\
                  for one that cannot, since the other node is gone for good. Tell the arbiter,\n\
                  too: palisade-arbiter CONFIG release RESOURCE NODE EPISODE --yes.\n\
                  --yes  you have read what it means, which it says without this",
        group: Group::Resource,
        operand: Operand::Episode,
        options: &[flag("--yes"), DRY_RUN],
    },
    Spec {
        name: "outdate",
        usage: "outdate [--dry-run]",
        summary: "note durably that this node's data is not the newest",
        details: "This node cannot become Primary then until it was connected to a peer that\n\
                  is UpToDate. Refused on a Primary, while connected to one, and on a node\n\
                  that stopped as Primary without saying so.",
        group: Group::Resource,
        operand: Operand::None,
        options: &[DRY_RUN],
    },
    Spec {
        name: "create-md",
        usage: "create-md VOL [--force] [--dry-run]",
        summary: "write fresh metadata for a volume's disk",
        details: "And attach it; the volume must be detached. Refused on a disk that seems to\n\
                  hold somebody's data. The disk knows nothing then: unless both nodes' disks\n\
                  are fresh, all blocks are copied from the peer.\n\
                  --force  use the disk nevertheless: what it holds is given up",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "attach",
        usage: "attach VOL",
        summary: "take a volume's disk into use",
        details: "Reads its metadata; connected, what it missed is copied from the peer.",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[],
    },
    Spec {
        name: "detach",
        usage: "detach VOL [--force] [--dry-run]",
        summary: "take a volume's disk out of use",
        details: "A Primary goes on through its peer. Refused while clients are served and the\n\
                  peer has no good data.\n\
                  --force  do not wait for what the disk has under way, for a disk that\n\
                  \x20        hangs: the blocks are copied from the peer at the next attach",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "resize",
        usage: "resize VOL [--size SIZE] [--assume-clean] [--dry-run]",
        summary: "use what both nodes' disks have grown by",
        details: "On one of two connected nodes, after both disks were enlarged. The new part\n\
                  is copied to the peer in a resync. Volumes do not shrink.\n\
                  --size          so large, in bytes or with a unit (20GiB); otherwise as\n\
                  \x20               large as both disks allow\n\
                  --assume-clean  do not copy it: it is identical on both disks, such as all\n\
                  \x20               zero. If it is not, clients may read wrong data",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[
            with_value("--size", Takes::Offset),
            flag("--assume-clean"),
            DRY_RUN,
        ],
    },
    Spec {
        name: "invalidate",
        usage: "invalidate VOL [--dry-run]",
        summary: "give up this node's data: copy it from the peer",
        details: "Every block is copied. Until that is done only the peer has good data.\n\
                  Refused unless the peer is UpToDate, and on a lone Primary.",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[DRY_RUN],
    },
    Spec {
        name: "invalidate-remote",
        usage: "invalidate-remote VOL [--dry-run]",
        summary: "give up the peer's data: copy it from here",
        details: "Every block is copied. Until that is done only this node has good data.\n\
                  Refused unless this node is UpToDate, and next to a Primary.",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[DRY_RUN],
    },
    Spec {
        name: "rollback",
        usage: "rollback VOL [--yes] [--dry-run]",
        summary: "go back to what the disk had before a resync to it",
        details: "For a resync whose source is gone in the middle, if the volume keeps a\n\
                  snapshot ([[volume]] snapshot). The disk is whole but Outdated then, so\n\
                  only 'primary --force' makes this node Primary; a peer that has a whole\n\
                  copy replaces it when it is back. Without --yes, as with --dry-run, it says\n\
                  what would be written back and changes nothing.\n\
                  --yes  do it",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[flag("--yes"), flag("--dry-run")],
    },
    Spec {
        name: "drop-snapshot",
        usage: "drop-snapshot VOL [--dry-run]",
        summary: "give up the snapshot of a resync to this node",
        details: "The one that is held, or, if snapshot is \"required\" and there is no room\n\
                  for one, that of the next resync: it goes on without.",
        group: Group::Volume,
        operand: Operand::Volume,
        options: &[DRY_RUN],
    },
    Spec {
        name: "new-current-uuid",
        usage: "new-current-uuid --clear-bitmap [--dry-run]",
        summary: "state that both nodes' disks are identical",
        details: "Skips the initial resync: both nodes become UpToDate as they are. Only for\n\
                  disks known to be identical (fresh and blank, or compared), on one of two\n\
                  connected Secondary nodes. If they differ, clients will read wrong data.\n\
                  --clear-bitmap  required: it says that nothing needs to be copied",
        group: Group::Volume,
        operand: Operand::None,
        options: &[flag("--clear-bitmap"), DRY_RUN],
    },
    Spec {
        name: "pause-sync",
        usage: "pause-sync [VOL]",
        summary: "let a resync rest",
        details: "Of all volumes if none is named. Clients are mirrored meanwhile as ever.",
        group: Group::Copy,
        operand: Operand::OptionalVolume,
        options: &[],
    },
    Spec {
        name: "resume-sync",
        usage: "resume-sync [VOL]",
        summary: "let a resync that was paused here go on",
        details: "Of all volumes if none is named. A resync goes on when both nodes let it.",
        group: Group::Copy,
        operand: Operand::OptionalVolume,
        options: &[],
    },
    Spec {
        name: "verify",
        usage: "verify VOL [--start OFFSET] [--stop OFFSET] [--repair] [--dry-run] | --abort",
        summary: "compare a volume's blocks on both nodes",
        details: "Under clients' requests; blocks that differ are logged. One that was aborted\n\
                  or cut off goes on where it stopped.\n\
                  --start   first byte, such as 10GiB; 0 to begin anew\n\
                  --stop    first byte that is not compared any more; without it, the end\n\
                  --repair  also copy what differs: from the Primary, or from this node if\n\
                  \x20         neither is; the other side's blocks are overwritten\n\
                  --abort   end a running one",
        group: Group::Copy,
        operand: Operand::Volume,
        options: &[
            with_value("--start", Takes::Offset),
            with_value("--stop", Takes::Offset),
            flag("--repair"),
            flag("--abort"),
            DRY_RUN,
        ],
    },
    Spec {
        name: "set",
        usage: "set [KEY=VALUE] [--dry-run]",
        summary: "change the configuration while the node runs",
        details: "Until its next start, on this node alone. Without KEY it lists what can be\n\
                  changed, and where it differs from the TOML. KEY is a section and a key, such\n\
                  as resync.c-max-rate; VALUE needs no quotes, and none at all stands for a key\n\
                  that is left out. The value is checked as in the TOML.",
        group: Group::Machine,
        operand: Operand::Setting,
        options: &[DRY_RUN],
    },
    Spec {
        name: "adjust",
        usage: "adjust [--dry-run]",
        summary: "undo what 'set' has changed: as the TOML says",
        details: "A TOML that was changed since the start counts from the next one ('reboot').",
        group: Group::Machine,
        operand: Operand::None,
        options: &[DRY_RUN],
    },
    Spec {
        name: "reboot",
        usage: "reboot [--force] [--dry-run]",
        summary: "start the node again",
        details: "Refused while this node is Primary and clients have a volume open.\n\
                  --force  drop them",
        group: Group::Machine,
        operand: Operand::None,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "poweroff",
        usage: "poweroff [--force] [--dry-run]",
        summary: "switch the node off",
        details: "Refused while this node is Primary and clients have a volume open.\n\
                  --force  drop them",
        group: Group::Machine,
        operand: Operand::None,
        options: &[FORCE, DRY_RUN],
    },
    Spec {
        name: "clear",
        usage: "clear",
        summary: "clear the screen (also Ctrl-L)",
        details: "",
        group: Group::Machine,
        operand: Operand::None,
        options: &[],
    },
];
