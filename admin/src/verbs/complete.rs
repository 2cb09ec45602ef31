//! Completion of verbs, volumes and options.

use super::parse::parse;
use super::table::{Operand, Spec, Takes, VERBS, spec};
use crate::config::live;
use crate::console::Completer;
use crate::log::LEVELS;
use core::fmt::Write;

/// Completes verbs, volumes and options.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerbCompleter<'v> {
    /// Indices of the volumes there are.
    pub volumes: &'v [u16],
}

impl VerbCompleter<'_> {
    /// Behind `watch`: the verbs that it shows, and their words.
    fn watched(&self, before: &str, offer: &mut dyn FnMut(&str)) {
        if before.contains(' ') {
            return self.candidates(before, offer);
        }
        let looks =
            |spec: &&Spec| matches!(parse(spec.name, &[]), Ok(Some(verb)) if verb.only_looks());
        let verbs = VERBS.iter().filter(looks).map(|spec| spec.name);
        // Those that need a word behind them.
        verbs.chain(["config", "crash"]).for_each(offer);
    }
}

impl Completer for VerbCompleter<'_> {
    fn candidates(&self, before: &str, offer: &mut dyn FnMut(&str)) {
        // The word being typed is not one that has been given.
        let given = match before.ends_with(' ') {
            true => before,
            false => before.rsplit_once(' ').map_or("", |(given, _)| given),
        };
        let mut words = given.split_ascii_whitespace();
        let Some(verb) = words.next() else {
            return VERBS.iter().for_each(|spec| offer(spec.name));
        };
        let Some(spec) = spec(verb) else { return };
        if spec.operand == Operand::Command {
            let at = before.find(verb).map_or(0, |at| at + verb.len());
            return self.watched(before[at..].trim_ascii_start(), offer);
        }
        let last = words.clone().last();
        let option_before =
            last.and_then(|last| spec.options.iter().find(|option| option.is(last)));
        match option_before.map(|option| option.takes) {
            Some(Takes::Offset | Takes::Event) => return,
            Some(Takes::Level) => return LEVELS.iter().for_each(|(level, _)| offer(level)),
            Some(Takes::Nothing) | None => {}
        }
        let has_operand = words.clone().any(|word| spec.operand.fits(word));
        match spec.operand {
            _ if has_operand => {}
            Operand::Verb => VERBS.iter().for_each(|spec| offer(spec.name)),
            Operand::Volume | Operand::OptionalVolume => {
                for index in self.volumes {
                    let mut name: heapless::String<8> = heapless::String::new();
                    // Cannot fail: a u16 has at most five digits.
                    let _fits = write!(name, "vol{index}");
                    offer(&name);
                }
            }
            Operand::Words { words, .. } => words.iter().for_each(|word| offer(word)),
            Operand::Setting => live::KEYS.iter().for_each(|key| offer(key)),
            Operand::None | Operand::Lines | Operand::Episode | Operand::Command => {}
        }
        for option in spec.options {
            let already = |word: &str| option.is(word.split('=').next().unwrap_or(word));
            if !words.clone().any(already) {
                offer(option.name);
            }
        }
    }
}
