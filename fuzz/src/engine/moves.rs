//! What the fuzzer can make happen, and how it says so.

use super::disks::{BLOCK, SIZE};
use super::victim::Victim;
use crate::frames::{Fields, hello, hello_volume, name};
use crate::input::Input;
use replication::api::{
    ClientOp, Command, DiskError, DiskState, Event, LinkDownReason, Role, VolumeStatus,
};
use replication::wire::{
    Frame, HelloVolume, Refusal, Resize, ResizeAnswer, ResizeReply, ResizeStep, VERSION,
};

/// The moves. Each variant's number is the byte that asks for it.
#[derive(Clone, Copy)]
pub enum Move {
    LinkUp,
    Meet,
    Acknowledge,
    CompleteAll,
    Complete,
    Frame,
    Client,
    Command,
    Tick,
    Wait,
    LinkDown,
    DiskChanged,
    OpenClients,
    Refuse,
    HoldMetadata,
    Damage,
    Reboot,
    Introduce,
    Receive,
    Lead,
    Follow,
}

const MOVES: [Move; 21] = [
    Move::LinkUp,
    Move::Meet,
    Move::Acknowledge,
    Move::CompleteAll,
    Move::Complete,
    Move::Frame,
    Move::Client,
    Move::Command,
    Move::Tick,
    Move::Wait,
    Move::LinkDown,
    Move::DiskChanged,
    Move::OpenClients,
    Move::Refuse,
    Move::HoldMetadata,
    Move::Damage,
    Move::Reboot,
    Move::Introduce,
    Move::Receive,
    Move::Lead,
    Move::Follow,
];

/// More kinds of frames than there are.
const KINDS: u8 = 64;

const DISKS: [DiskState; 7] = [
    DiskState::UpToDate,
    DiskState::Consistent,
    DiskState::DUnknown,
    DiskState::Inconsistent,
    DiskState::Outdated,
    DiskState::Diskless,
    DiskState::Failed,
];

/// The next move of the input.
pub fn one(victim: &mut Victim, input: &mut Input<'_>) {
    match input.one_of(&MOVES) {
        Move::LinkUp => victim.link_up(),
        Move::Meet => meet(victim, input),
        Move::Acknowledge => acknowledge(victim, input),
        Move::CompleteAll => victim.complete_all(),
        Move::Complete => complete(victim, input),
        Move::Frame => frame(victim, input),
        Move::Introduce => introduce(victim, input),
        Move::Receive => receive(victim, input),
        Move::Lead => lead(victim, input),
        Move::Follow => follow(victim, input),
        Move::Client => client(victim, input),
        Move::Command => command(victim, input),
        Move::Tick => victim.tick(),
        Move::Wait => {
            victim.now += input.one_of(&[1_000, 300_000, 1_100_000, 7_000_000]);
            victim.handle(Event::Tick);
        }
        Move::LinkDown => {
            let reasons = [
                LinkDownReason::Closed,
                LinkDownReason::Garbage,
                LinkDownReason::ConnectFailed,
            ];
            let reason = input.one_of(&reasons);
            if !victim.up || reason != LinkDownReason::ConnectFailed {
                victim.link_down(reason);
            }
        }
        Move::DiskChanged => {
            let volume = input.one_of(&[0, 1, 2]);
            let size = input.one_of(&[0, SIZE, SIZE * 2, SIZE / 2, SIZE * 4]);
            victim.disks.enlarge(volume, size);
            victim.handle(Event::DiskChanged {
                volume,
                metadata: false,
                size,
            });
        }
        Move::OpenClients => victim.handle(Event::OpenClients(input.one_of(&[0, 1, 200]))),
        Move::Refuse => {
            let reasons = [
                Refusal::SplitBrain,
                Refusal::Size,
                Refusal::Version,
                Refusal::PrimaryIsTarget,
            ];
            let reason = input.one_of(&reasons);
            let volume = volume(input);
            victim.hear(Frame::Refuse { reason, volume }, None);
        }
        Move::HoldMetadata => victim.meta_held = input.coin(),
        Move::Damage => damage(victim, input),
        Move::Reboot => victim.reboot(),
    }
}

/// Something on a disk is not what was written; the engine notices at the next boot, if ever.
fn damage(victim: &mut Victim, input: &mut Input<'_>) {
    let disk = victim.disks.metadata(input.pick(2) as u16);
    let end = disk.len();
    // Metadata is in the last pages, or the only thing on its disk.
    let at = end - usize::from(input.u16()) % (64 << 10) - 1;
    let len = usize::from(input.byte()).min(end - at);
    let bytes = input.bytes(len);
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

fn volume(input: &mut Input<'_>) -> u16 {
    input.one_of(&[0, 1, 2, u16::MAX])
}

fn role(input: &mut Input<'_>) -> Role {
    input.one_of(&[Role::Secondary, Role::Primary])
}

fn uuid(victim: &Victim, input: &mut Input<'_>) -> u64 {
    let known = victim.status().volumes;
    let known = known.iter().flat_map(|v| [v.current_uuid, v.bitmap_uuid]);
    let all: Vec<u64> = known.chain(victim.uuids.iter().copied()).collect();
    input.one_of(&all)
}

/// A number of a request: mostly one that is owed an answer.
fn request(victim: &mut Victim, input: &mut Input<'_>) -> u64 {
    let wild = [0, 1, 9, u64::MAX];
    let at = input.pick(256);
    match at.checked_sub(wild.len()) {
        Some(at) if !victim.asked.is_empty() => {
            let at = at % victim.asked.len();
            victim.asked.remove(at).unwrap_or_default()
        }
        _ => wild[at % wild.len()],
    }
}

fn offset(input: &mut Input<'_>) -> u64 {
    let unit = input.one_of(&[512, 4096, 65_536, 1]);
    match input.byte() {
        at @ ..=249 => u64::from(at) * unit,
        250 => SIZE - 512,
        251 => SIZE - 4096,
        252 => SIZE,
        253 => u64::MAX - 511,
        254 => u64::MAX,
        255 => SIZE - 131_072,
    }
}

fn len(input: &mut Input<'_>) -> u32 {
    let lens = [4096, 512, 65_536, 131_072, 1 << 20, 1, 513, 0, u32::MAX];
    input.one_of(&lens)
}

/// A peer that knows the protocol: everything of a handshake at once, with a past of its choice.
fn meet(victim: &mut Victim, input: &mut Input<'_>) {
    victim.link_up();
    let mut opening = hello(role(input), 2);
    opening.protocol = victim.protocol();
    let how = input.byte();
    opening.discard_my_data = how & 1 == 1;
    opening.dry_run = how & 6 == 6;
    victim.hear(Frame::Hello(opening), None);
    let past = input.byte();
    let disk = input.one_of(&DISKS);
    for own in victim.status().volumes {
        let told = volume_with(past, disk, &own);
        victim.hear(Frame::HelloVolume(told), None);
    }
}

/// A volume of the peer whose generations relate to `own` in the way that `past` says.
fn volume_with(past: u8, disk: DiskState, own: &VolumeStatus) -> HelloVolume {
    const OTHER: u64 = 0xbad_cafe;
    let (current, bitmap, history) = match past & 7 {
        // The same data.
        0 => (own.current_uuid, 0, [0, 0]),
        // It went on alone.
        1 => (OTHER, own.current_uuid, [0, 0]),
        // It stayed behind.
        2 => (own.bitmap_uuid, 0, [0, 0]),
        // It went on long ago.
        3 => (OTHER, OTHER + 1, [own.current_uuid, 0]),
        // Both went on.
        4 => (OTHER, own.bitmap_uuid, [OTHER + 2, 0]),
        // Nothing in common.
        5 => (OTHER, OTHER + 1, [OTHER + 2, OTHER + 3]),
        // Nothing known.
        6 => (0, 0, [0, 0]),
        // The same, and it expects to be the source.
        _ => (own.current_uuid, OTHER, [own.bitmap_uuid, 0]),
    };
    HelloVolume {
        size: own.size,
        block_size: BLOCK,
        can_discard: past & 8 != 0,
        disk,
        current,
        bitmap,
        history,
        dirty: u64::from(past >> 4),
        instance: u64::from(past >> 5),
        crashed: past & 16 != 0,
        was_primary: past & 64 != 0,
        steady: past & 128 != 0,
        ..hello_volume(own.index)
    }
}

/// Answers to what the engine asked: so many of them, well or badly.
fn acknowledge(victim: &mut Victim, input: &mut Input<'_>) {
    let count = input.one_of(&[1, 4, 256]);
    let bad = input.pick(16) == 15;
    for _ in 0..count {
        let Some(request) = victim.asked.pop_front() else {
            break;
        };
        let answer = match bad {
            true => Frame::Nack { request },
            false => Frame::Ack { request },
        };
        victim.hear(answer, None);
    }
}

/// Word that requests have come, though they are not done.
fn receive(victim: &mut Victim, input: &mut Input<'_>) {
    let count = input.one_of(&[1, 4, 256]);
    let asked: Vec<_> = victim.asked.iter().copied().take(count).collect();
    for request in asked {
        victim.hear(Frame::Received { request }, None);
    }
}

/// The peer has a volume grow.
fn lead(victim: &mut Victim, input: &mut Input<'_>) {
    let (exact, clean) = (input.coin(), input.coin());
    let steps = [
        ResizeStep::Prepare { exact, clean },
        ResizeStep::Commit,
        ResizeStep::Done,
        ResizeStep::Cancel,
    ];
    let resize = Resize {
        step: input.one_of(&steps),
        volume: volume(input),
        request: input.one_of(&[77, 78]),
        size: size(input),
    };
    victim.hear(Frame::Resize(resize), None);
}

/// The peer grows as it was told, or does not.
fn follow(victim: &mut Victim, input: &mut Input<'_>) {
    let answers = [
        ResizeAnswer::Done,
        ResizeAnswer::Done,
        ResizeAnswer::Done,
        ResizeAnswer::DiskTooSmall,
        ResizeAnswer::Busy,
        ResizeAnswer::NoMemory,
        ResizeAnswer::DiskFailed,
    ];
    let answer = input.one_of(&answers);
    let other = input.coin().then(|| size(input));
    if let Some(asked) = victim.grows {
        let reply = ResizeReply {
            request: asked.request,
            size: other.unwrap_or(asked.size),
            answer,
        };
        victim.hear(Frame::ResizeReply(reply), None);
    }
}

/// A size that a volume might have.
fn size(input: &mut Input<'_>) -> u64 {
    let unit = input.one_of(&[4096, 65_536, 512, 1]);
    let more = u64::from(input.byte());
    input.one_of(&[SIZE, 2 * SIZE, 0, 4 * SIZE, u64::MAX - (1 << 30)]) + more * unit
}

fn complete(victim: &mut Victim, input: &mut Input<'_>) {
    let at = input.pick(256);
    let results = [
        Ok(()),
        Ok(()),
        Ok(()),
        Err(DiskError::Io),
        Err(DiskError::Unsupported),
        Err(DiskError::Gone),
    ];
    victim.complete(at, input.one_of(&results));
}

fn client(victim: &mut Victim, input: &mut Input<'_>) {
    let kind = input.pick(5);
    let fua = input.coin();
    let volume = input.one_of(&[0, 0, 0, 1, 2]);
    let offset = offset(input);
    let len = len(input);
    if !victim.engine.has_room() {
        return;
    }
    let op = match kind {
        0 => victim.buf(len).map(|buf| ClientOp::Write { buf, fua }),
        1 => victim.buf(len).map(ClientOp::Read),
        2 => Some(ClientOp::Flush),
        3 => Some(ClientOp::Discard { len, fua }),
        _ => Some(ClientOp::WriteZeroes {
            len,
            unmap: !fua,
            fua,
        }),
    };
    if let Some(op) = op {
        victim.client(volume, offset, op);
    }
}

fn command(victim: &mut Victim, input: &mut Input<'_>) {
    let sure = input.coin();
    let kind = input.pick(23);
    let mut volume = || input.one_of(&[0, 1, 2]);
    let discard_my_data = sure;
    #[rustfmt::skip]
    let command = match kind {
        0 => Command::Primary { force: sure },
        1 => Command::Secondary { force: sure },
        2 => Command::Connect { discard_my_data },
        3 => Command::Disconnect,
        4 => Command::NewCurrentUuid,
        5 => Command::CreateMd { volume: volume(), force: sure },
        6 => Command::PauseSync { volume: sure.then(&mut volume) },
        7 => Command::ResumeSync { volume: sure.then(&mut volume) },
        8 => Command::VerifyAbort { volume: volume() },
        9 => Command::Invalidate { volume: volume() },
        10 => Command::InvalidateRemote { volume: volume() },
        11 => Command::Outdate,
        12 => Command::Resize { volume: volume(), size: sure.then_some(1 << 20), assume_clean: sure },
        13 => Command::Attach { volume: volume() },
        14 => Command::Detach { volume: volume(), force: sure },
        15 => Command::SuspendIo,
        16 => Command::ResumeIo,
        20 | 21 => Command::DryRun { discard_my_data },
        22 => Command::Inspect { volume: volume() },
        _ => {
            let volume = volume();
            let mut place = || input.one_of(&[None, Some(0), Some(65_536), Some(SIZE), Some(7)]);
            Command::Verify { volume, start: place(), stop: place(), repair: sure }
        }
    };
    victim.command(command);
}

/// Any frame, of values that have a meaning here.
fn frame(victim: &mut Victim, input: &mut Input<'_>) {
    let (kind, flags) = (input.byte() % KINDS, input.byte() & 7);
    let volume = volume(input);
    let request = match input.coin() {
        true => request(victim, input),
        false => u64::from(input.byte()),
    };
    let (offset, length) = (offset(input), len(input));
    let fields = Fields {
        kind,
        flags,
        volume,
        request,
        offset,
        length,
        argument: uuid(victim, input),
    };
    let payload = input.one_of(&[4096, 512, 131_072, 65_536, 1, 513, 0]);
    let text = usize::from(input.byte() & 63);
    let text = input.bytes(text);
    let payload = match payload {
        // As long as its text.
        0 => text.len().max(1) as u32,
        len => len,
    };
    // A payload goes with the wrong frame only if whoever feeds the engine is wrong, too.
    if let Ok(frame) = fields.frame(&[], payload) {
        let room = victim.pool.free_bytes() > 1 << 20;
        let text = if text.is_empty() { &[7] } else { text };
        victim.hear(frame, room.then_some((payload, text)));
    } else if let Ok(frame) = fields.frame(text, 0) {
        victim.hear(frame, None);
    }
}

/// The frames of a handshake one by one, and with values that make no sense.
fn introduce(victim: &mut Victim, input: &mut Input<'_>) {
    let frame = match input.coin() {
        true => hello_of(victim, input),
        false => volume_of(victim, input),
    };
    victim.hear(frame, None);
}

fn hello_of(victim: &Victim, input: &mut Input<'_>) -> Frame {
    let mut opening = hello(role(input), input.one_of(&[2, 1, 16]));
    let versions = [VERSION, VERSION - 1, VERSION + 1, u16::MAX, 0];
    opening.version_min = input.one_of(&versions);
    opening.version_max = input.one_of(&versions);
    opening.nonce = u64::from(input.byte());
    opening.window = input.one_of(&[64, 128, u16::MAX]);
    opening.node = name(input.one_of(&["b", "a", "c"]));
    opening.peer = name(input.one_of(&["a", "b"]));
    opening.resource = name(input.one_of(&["r0", "r1"]));
    opening.protocol = victim.protocol();
    opening.features = u64::from(input.byte());
    Frame::Hello(opening)
}

fn volume_of(victim: &Victim, input: &mut Input<'_>) -> Frame {
    let flags = input.byte();
    Frame::HelloVolume(HelloVolume {
        size: input.one_of(&[SIZE, SIZE - 20_480, u64::MAX, 0]),
        block_size: input.one_of(&[BLOCK, 4096, 0]),
        can_discard: flags & 1 != 0,
        disk: input.one_of(&DISKS),
        current: uuid(victim, input),
        bitmap: uuid(victim, input),
        history: [uuid(victim, input), uuid(victim, input)],
        dirty: input.one_of(&[0, 1, u64::MAX]),
        instance: u64::from(input.byte()),
        crashed: flags & 2 != 0,
        was_primary: flags & 4 != 0,
        steady: flags & 8 != 0,
        handler_due: flags & 16 != 0,
        unflushed: flags & 32 != 0,
        ..hello_volume(volume(input))
    })
}
