//! What the nodes say of themselves: in a handshake, and when a state changes.

use super::*;

pub(super) fn encode_hello(hello: &Hello, header: &mut Header, body: &mut Writer<'_>) {
    header.kind = kind::HELLO;
    header.flags = flag(hello.discard_my_data, YES) | flag(hello.dry_run, DRY_RUN);
    body.bytes(&hello.version_min.to_le_bytes());
    body.bytes(&hello.version_max.to_le_bytes());
    body.bytes(&hello.features.to_le_bytes());
    body.bytes(&hello.nonce.to_le_bytes());
    body.bytes(&hello.window.to_le_bytes());
    body.bytes(&[hello.volumes, role_code(hello.role)]);
    body.bytes(&hello.policies.to_bytes());
    body.name(&hello.node);
    body.name(&hello.peer);
    body.name(&hello.resource);
    let code = PROTOCOLS.iter().position(|p| *p == hello.protocol);
    body.bytes(&[code.unwrap_or(0) as u8]);
    let code = POLICIES.iter().position(|p| *p == hello.fencing);
    body.bytes(&[code.unwrap_or(0) as u8]);
    body.bytes(&hello.identity.to_le_bytes());
    body.bytes(&hello.episode.to_le_bytes());
}

/// Bytes behind the known fields are a later version's and are passed over.
pub(super) fn decode_hello(header: &Header, mut body: Reader<'_>) -> Result<Hello, WireError> {
    let hello = Hello {
        version_min: body.u16()?,
        version_max: body.u16()?,
        features: body.u64()?,
        nonce: body.u64()?,
        window: body.u16()?,
        volumes: body.u8()?,
        role: role(body.u8()?)?,
        discard_my_data: header.flags & YES != 0,
        dry_run: header.flags & DRY_RUN != 0,
        policies: Policies::from_bytes(body.array()?),
        node: body.name()?,
        peer: body.name()?,
        resource: body.name()?,
        protocol: match body.u8() {
            Ok(code) => *PROTOCOLS.get(usize::from(code)).ok_or(WireError::Field)?,
            Err(_) => Protocol::C,
        },
        fencing: match body.u8() {
            Ok(code) => *POLICIES.get(usize::from(code)).ok_or(WireError::Field)?,
            Err(_) => Policy::DontCare,
        },
        identity: body.u64().unwrap_or(0),
        episode: body.u64().unwrap_or(0),
    };
    let volumes = usize::from(hello.volumes);
    if volumes == 0 || volumes > MAX_VOLUMES || hello.window < 64 {
        return Err(WireError::Field);
    }
    Ok(hello)
}

pub(super) fn encode_volume(volume: &HelloVolume, header: &mut Header, body: &mut Writer<'_>) {
    header.kind = kind::HELLO_VOLUME;
    header.volume = volume.volume;
    header.flags = flag(volume.can_discard, YES)
        | flag(volume.crashed, CRASHED)
        | flag(volume.was_primary, WAS_PRIMARY)
        | flag(volume.steady, STEADY)
        | flag(volume.paused, HELD)
        | flag(volume.handler_due, HANDLER_DUE)
        | flag(volume.unflushed, UNFLUSHED);
    body.bytes(&volume.size.to_le_bytes());
    body.bytes(&volume.block_size.to_le_bytes());
    body.bytes(&[disk_code(volume.disk)]);
    for uuid in [
        volume.current,
        volume.bitmap,
        volume.history[0],
        volume.history[1],
    ] {
        body.bytes(&uuid.to_le_bytes());
    }
    body.bytes(&volume.dirty.to_le_bytes());
    body.bytes(&volume.instance.to_le_bytes());
    let [exposed, offered] = volume.seen.map_or([0; 2], |seen| seen.generations);
    let instance = volume.seen.map_or(0, |seen| seen.instance);
    for number in [exposed, offered, instance] {
        body.bytes(&number.to_le_bytes());
    }
}

pub(super) fn decode_volume(
    header: &Header,
    mut body: Reader<'_>,
) -> Result<HelloVolume, WireError> {
    Ok(HelloVolume {
        volume: header.volume,
        size: body.u64()?,
        block_size: body.u32()?,
        can_discard: header.flags & YES != 0,
        disk: disk(body.u8()?)?,
        current: body.u64()?,
        bitmap: body.u64()?,
        history: [body.u64()?, body.u64()?],
        dirty: body.u64()?,
        instance: body.u64()?,
        crashed: header.flags & CRASHED != 0,
        was_primary: header.flags & WAS_PRIMARY != 0,
        steady: header.flags & STEADY != 0,
        paused: header.flags & HELD != 0,
        handler_due: header.flags & HANDLER_DUE != 0,
        unflushed: header.flags & UNFLUSHED != 0,
        seen: {
            let generations = [body.u64()?, body.u64()?];
            let instance = body.u64()?;
            (generations[0] != 0).then_some(Seen {
                generations,
                instance,
            })
        },
    })
}

pub(super) fn decode_state(header: &Header, body: Reader<'_>) -> Result<State, WireError> {
    let mut volumes = heapless::Vec::new();
    let (pairs, rest) = body.0.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(WireError::Length);
    }
    for [code, flags] in pairs {
        let state = VolumeState {
            disk: disk(*code)?,
            paused: flags & PAUSED != 0,
            waits: flags & WAITS != 0,
            verifies: flags & VERIFIES != 0,
        };
        volumes.push(state).map_err(|_| WireError::Length)?;
    }
    Ok(State {
        role: role(header.flags)?,
        volumes,
    })
}
