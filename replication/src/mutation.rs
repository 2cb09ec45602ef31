//! Deliberate defects of the engine, to prove that the simulator's oracle notices each of them.
//!
//! They exist only with the cargo feature `mutations`, which nothing but `cargo run -p sim --features
//! mutations -- mutations` turns on; without it [`is`] is a constant `false` and leaves no trace in the
//! image. One is active in a process at a time.

#[cfg(feature = "mutations")]
use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutations {
    ($($mutation:ident = $name:literal: $meaning:literal,)*) => {
        /// A deliberate defect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $meaning] $mutation,)*
        }

        /// All of them.
        pub const ALL: &[Mutation] = &[$(Mutation::$mutation,)*];

        impl Mutation {
            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutation => $name,)* }
            }

            /// What is wrong with it.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$mutation => $meaning,)* }
            }
        }
    };
}

mutations! {
    AckBeforePeer = "ack-before-peer": "a client's write is answered before the peer has it",
    AckBeforeDisk = "ack-before-disk": "the peer acknowledges a write that its disk has not done",
}

/// Whether this build has them.
pub const ENABLED: bool = cfg!(feature = "mutations");

#[cfg(feature = "mutations")]
static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Makes one active; `false` if there is none of that name, or none in this build.
pub fn select(name: &str) -> bool {
    #[cfg(feature = "mutations")]
    if let Some(at) = ALL.iter().position(|m| m.name() == name) {
        ACTIVE.store(at, Ordering::Relaxed);
        return true;
    }
    let _ = name;
    false
}

/// Whether `mutation` is the active one.
#[cfg(feature = "mutations")]
#[must_use]
pub fn is(mutation: Mutation) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutation as usize
}

/// Whether `mutation` is the active one: never, in this build.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub const fn is(mutation: Mutation) -> bool {
    let _ = mutation;
    false
}
