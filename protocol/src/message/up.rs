//! From the device to the hub.

use serde::{Deserialize, Serialize};

use crate::trust::Signed;

/// What a device sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up<'a> {
    /// I am here; on `up/hello`.
    Hello(Hello),
    /// I am gone; the last will, on `up/gone`.
    Gone(Gone),
    /// A signed [`crate::trust::Report`]; on `up/state`.
    #[serde(borrow)]
    State(Signed<'a>),
    /// A signed [`crate::trust::Batch`]; on `up/batch`.
    Batch(Signed<'a>),
    /// What is missing of a transfer; on `up/need/{transfer}`.
    Need(Need),
    /// A signed [`crate::trust::Known`]; on `up/known`.
    Known(Signed<'a>),
}

/// Birth. It carries no authority: it makes the hub send the desired state again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Random at each start of the agent.
    pub boot: u64,
    /// Counts the sessions of this boot, from 1.
    pub session: u32,
}

/// Last will of the session with the same numbers; an older one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// As in [`Hello`].
    pub boot: u64,
    /// As in [`Hello`].
    pub session: u32,
}

/// Asks for parts of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Whether the table of chunk digests is missing.
    pub table: bool,
    /// Number of the first chunk that `mask` speaks of.
    pub base: u16,
    /// Bit `i` asks for chunk `base + i`.
    pub mask: u64,
}

impl Need {
    /// The chunk numbers asked for, in order, at most `limit`.
    pub fn chunks(self, limit: u32) -> impl Iterator<Item = u16> {
        (0..64u16)
            .filter(move |bit| self.mask >> bit & 1 == 1)
            .filter_map(move |bit| self.base.checked_add(bit))
            .take(limit as usize)
    }
}
