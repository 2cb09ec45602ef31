//! Which build this is.

/// Version of the appliance.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, padded with zeros. `tools/build-kernel.sh` writes it over the section after linking, so that a commit
/// that changes no code costs no build.
#[used]
#[unsafe(link_section = ".revision")]
static REVISION: [u8; 48] = {
    let (mut padded, name, mut at) = ([0; 48], b"unknown", 0);
    while at < name.len() {
        padded[at] = name[at];
        at += 1;
    }
    padded
};

/// The commit that the image was built from, `-dirty` behind it if files differed from it; `unknown` for an image that
/// was not built from a git checkout.
pub fn revision() -> &'static str {
    // What the compiler knows of the content is not what the image holds, so it must not look.
    let revision: &'static [u8; 48] = core::hint::black_box(&REVISION);
    // SAFETY: the address of a static of that very type.
    let written = unsafe { (&raw const *revision).read_volatile() };
    let len = written.iter().position(|byte| *byte == 0).unwrap_or(48);
    core::str::from_utf8(&revision[..len]).unwrap_or("unknown")
}
