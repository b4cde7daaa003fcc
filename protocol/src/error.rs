//! The numbered refusals: one code means the same on every device, for ever. Never reorder,
//! never reuse a number.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! rejects {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)+) => {
        /// Why a device or the verifier refused; `repr(u16)` is the code on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        #[repr(u16)]
        pub enum Reject {
            $(#[doc = $text] $name = $code,)+
        }

        impl Reject {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What happened, as a clause for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

rejects! {
    Malformed = 10, "the bytes do not decode";
    UnknownFormat = 11, "the format version is not known here";
    TrailingBytes = 12, "bytes follow the end of the value";
    NotCanonical = 13, "the value is not in its shortest encoding";
    TooLarge = 14, "larger than the limit";
    WrongFleet = 20, "made for another fleet";
    UnknownKey = 21, "signed by a key that the root does not list";
    BadSignature = 22, "a signature does not verify";
    KeyRevoked = 23, "signed by a revoked key";
    DuplicateKey = 24, "one key signed twice";
    WrongRole = 25, "signed by a key without the role";
    WrongPrefix = 26, "signed by a key enrolled for other model names";
    TooFewSignatures = 27, "fewer distinct persons signed than the root requires";
    NoPublisher = 28, "no publisher signed";
    OfflineKeyMissing = 29, "the root requires a signature by a key that is not a browser's";
    RootSkipped = 30, "not the root that follows the one known here";
    WrongDevice = 40, "addressed to another device";
    StaleSequence = 41, "older than what this device has seen";
    StaleGeneration = 42, "from an earlier director generation";
    NotGranted = 43, "no grant reaches this device";
    GrantMismatch = 44, "the grant is for another release";
    BelowFloor = 45, "below the security floor";
    EvidenceMissing = 46, "a release or grant is missing beside the assignment";
    TooManyModels = 47, "more models than this device holds";
    WrongMode = 48, "the mode is not supported by this agent";
    NotInEpoch = 49, "valid only in certain epochs, and the epoch is not known here";
    CheckpointMissing = 50, "needs a checkpoint that this device has not seen";
    Recalled = 51, "recalled: it must not run any more";
    RecallsFull = 52, "more recalls than there is room for";
    StaleCheckpoint = 53, "older than the checkpoint known here";
    NonceMismatch = 54, "does not answer the question that was asked last";
    StaleEpoch = 55, "earlier than the epoch known here";
    DigestMismatch = 60, "the bytes do not have the approved digest";
    SizeMismatch = 61, "the size is not the approved one";
    ManifestMismatch = 62, "the package does not match its manifest";
    TensorMismatch = 63, "the tensor signature is not the approved one";
    WrongHardware = 64, "made for other hardware";
    AgentTooOld = 65, "needs a newer agent";
    OperatorsUnsupported = 66, "needs a newer operator set";
    NotEnoughMemory = 67, "needs more memory than the device has";
    WrongKind = 68, "a kind of package this device does not install";
    BitstreamMismatch = 69, "the bitstream is no engine for this model";
    ModelDoesNotLoad = 80, "the runtime cannot load the model";
    GoldenMismatch = 81, "the model does not reproduce its golden vectors";
    SelfTestTimeout = 82, "the self-test did not end in time";
    Crashed = 83, "the runtime crashed";
    ScoringErrors = 84, "scoring failed in probation";
    LatencyBudget = 85, "slower in probation than its declared latency budget";
    AcceleratorFault = 86, "the FPGA stopped scoring with it in probation";
    DiskFull = 90, "no room on the device";
    StorageFault = 91, "the device's storage failed";
    Withdrawn = 92, "superseded before it was installed";
}

impl Reject {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// A number that is no refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no refusal code")]
pub struct UnknownCode(pub u16);

impl TryFrom<u16> for Reject {
    type Error = UnknownCode;
    fn try_from(code: u16) -> Result<Self, UnknownCode> {
        Self::ALL.iter().find(|reject| reject.code() == code).copied().ok_or(UnknownCode(code))
    }
}

impl From<Reject> for u16 {
    fn from(reject: Reject) -> Self {
        reject.code()
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.text(), self.code())
    }
}

impl core::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for pair in Reject::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{pair:?}");
        }
        for reject in Reject::ALL {
            assert_eq!(Reject::try_from(reject.code()), Ok(*reject));
        }
        assert_eq!(Reject::try_from(0), Err(UnknownCode(0)));
    }
}
