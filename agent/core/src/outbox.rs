//! The order rules of the outbox: what an acknowledgement allows to forget, and what goes when there
//! is no room or it is too old.
//!
//! Records are numbered from 1 for ever. What had to be dropped is told by a
//! [`RecordBody::Gap`](bellwether_protocol::trust::RecordBody::Gap) with the number of the last one
//! dropped: `Gap(n)` at number `s` stands for the `n` records `s-n+1 ..= s`.

use bellwether_protocol::error::Reject;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::trust::{Ack, OutboxId, RoleSet, Signed, TrustedRoot};

/// Reads the hub's acknowledgement: every record up to the number returned may be forgotten.
///
/// # Errors
///
/// [`Reject::WrongDevice`], [`Reject::StaleSequence`] for another outbox, [`Reject::Malformed`]
/// for records beyond `last`, the newest there is, or why the signature does not count.
pub fn acknowledged(
    root: &TrustedRoot,
    device: &DeviceId,
    (outbox, last): (OutboxId, u64),
    signed: &Signed<'_>,
) -> Result<u64, Reject> {
    let ack: Ack = root.hub(signed, RoleSet::DIRECTOR)?;
    if ack.device != *device {
        return Err(Reject::WrongDevice);
    }
    if ack.outbox != outbox {
        return Err(Reject::StaleSequence);
    }
    if ack.through > last {
        return Err(Reject::Malformed);
    }
    Ok(ack.through)
}

/// A record in the outbox, as these rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// If it is a gap, for how many records it stands.
    pub gap: Option<u64>,
}

/// Records to drop: all up to and including `through`, in whose place `Gap(count)` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Number of the newest record dropped, and of the gap.
    pub through: u64,
    /// How many records are gone, those of earlier gaps included.
    pub count: u64,
}

/// Which of the oldest records go to free `excess` bytes; `None` if nothing must.
pub fn make_room(oldest: impl Iterator<Item = Kept>, excess: u64) -> Option<Dropped> {
    let mut freed = 0u64;
    let mut dropped: Option<Dropped> = None;
    for kept in oldest {
        if freed >= excess {
            break;
        }
        // A gap that is only replaced by a longer one frees nothing.
        freed = freed.saturating_add(if kept.gap.is_some() { 0 } else { kept.bytes });
        let count = dropped.map_or(0, |dropped| dropped.count).saturating_add(kept.gap.unwrap_or(1));
        dropped = Some(Dropped { through: kept.number, count });
    }
    dropped.filter(|_| freed > 0)
}

/// What goes if everything up to and including `through` is too old; `None` if nothing of it is left
/// but a gap, which stays until the hub has it.
pub fn expire(oldest: impl Iterator<Item = Kept>, through: u64) -> Option<Dropped> {
    let mut is_any = false;
    let mut dropped = Dropped { through: 0, count: 0 };
    for kept in oldest.take_while(|kept| kept.number <= through) {
        is_any |= kept.gap.is_none();
        dropped = Dropped { through: kept.number, count: dropped.count.saturating_add(kept.gap.unwrap_or(1)) };
    }
    is_any.then_some(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u64, gap: Option<u64>) -> Kept {
        Kept { number, bytes: 10, gap }
    }

    #[test]
    fn the_oldest_go_first_and_gaps_add_up() {
        let plain = (1..=5).map(|number| kept(number, None));
        assert_eq!(make_room(plain.clone(), 0), None);
        assert_eq!(make_room(plain.clone(), 1), Some(Dropped { through: 1, count: 1 }));
        assert_eq!(make_room(plain, 11), Some(Dropped { through: 2, count: 2 }));
        let with_gap = [kept(4, Some(4)), kept(5, None), kept(6, None)];
        assert_eq!(make_room(with_gap.into_iter(), 10), Some(Dropped { through: 5, count: 5 }));
        assert_eq!(make_room([kept(4, Some(4))].into_iter(), 10), None);
    }
    #[test]
    fn what_is_too_old_goes_but_never_a_gap_alone() {
        let all = [kept(4, Some(4)), kept(5, None), kept(9, None)];
        assert_eq!(expire(all.into_iter(), 3), None);
        assert_eq!(expire(all.into_iter(), 4), None);
        assert_eq!(expire(all.into_iter(), 8), Some(Dropped { through: 5, count: 5 }));
        assert_eq!(expire(all.into_iter(), 9), Some(Dropped { through: 9, count: 6 }));
    }
}
