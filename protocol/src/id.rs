//! Newtypes for every identifier, parsed once at the edge; inside, the type is the proof.

use core::fmt;
use core::str::FromStr;

use heapless::String;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limit::{DEVICE_ID_BYTES_MAX, MODEL_NAME_BYTES_MAX, TEXT_BYTES_MAX};

/// A text that is not the identifier it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: {rule}")]
pub struct BadId {
    /// Which identifier was expected.
    pub what: &'static str,
    /// What such an identifier looks like.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String<$max>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            ///
            /// [`BadId`], which states the rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                let valid: fn(&str) -> bool = $valid;
                let bad = BadId { what: $what, rule: $rule };
                if text.is_empty() || !valid(text) {
                    return Err(bad);
                }
                String::try_from(text).map(Self).map_err(|_| bad)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::<$max>::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control()) && text.trim() == text
}

text_id!(
    /// A device: `[A-Za-z0-9_-]{1,64}`; also its MQTT client id and user name.
    DeviceId, DEVICE_ID_BYTES_MAX, "device id", "1 to 64 of A-Z a-z 0-9 _ -", word
);
text_id!(
    /// A model: `[a-z0-9][a-z0-9._-]{0,47}`.
    ModelName, MODEL_NAME_BYTES_MAX, "model name",
    "1 to 48 of a-z 0-9 . _ -, beginning with a letter or digit",
    |text| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
);
text_id!(
    /// A person behind a key; thresholds count persons, not keys.
    Person, TEXT_BYTES_MAX, "person", "1 to 48 printable bytes without outer spaces", printable
);
text_id!(
    /// A class of hardware, such as `linux-x86_64`.
    HardwareClass, TEXT_BYTES_MAX, "hardware class", "1 to 48 of A-Z a-z 0-9 _ -", word
);
text_id!(
    /// The name of a tensor, as the model spells it.
    TensorName, TEXT_BYTES_MAX, "tensor name", "1 to 48 printable bytes without outer spaces", printable
);
text_id!(
    /// A file inside a package: one plain name, so that no path can leave its directory.
    FileName, TEXT_BYTES_MAX, "file name",
    "1 to 48 of A-Z a-z 0-9 . _ -, not beginning with a dot",
    |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && !text.starts_with('.')
);

/// A version of a model, counted from 1 by the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version(u32);

impl Version {
    /// The first version of every model.
    pub const FIRST: Self = Self(1);

    /// A version from its number.
    ///
    /// # Errors
    ///
    /// [`BadId`] for zero.
    pub const fn new(number: u32) -> Result<Self, BadId> {
        if number == 0 {
            return Err(BadId { what: "version", rule: "a whole number from 1 up" });
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The version after this one; `None` after 4,294,967,295.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl TryFrom<u32> for Version {
    type Error = BadId;
    fn try_from(number: u32) -> Result<Self, BadId> {
        Self::new(number)
    }
}

impl From<Version> for u32 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl FromStr for Version {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = BadId { what: "version", rule: "a whole number from 1 up" };
        text.parse().map_err(|_| bad).and_then(Self::new)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A model and its version, written `digits:3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: Version,
}

impl FromStr for ModelRef {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let (name, version) =
            text.split_once(':').ok_or(BadId { what: "model version", rule: "NAME:VERSION, such as digits:3" })?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// A transfer: the first eight bytes of the package digest, so that a resumed download and a
/// repeated one are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TransferId(pub u64);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TransferId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = BadId { what: "transfer id", rule: "16 hexadecimal digits" };
        let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !plain {
            return Err(bad);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", "a/b", "..", "a b", "é", "+", "#", "a\0"] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "../x", ".hidden", "a/b", "a\\b"] {
            assert!(FileName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ModelName::parse("Digits").is_err());
        assert!(ModelName::parse("-x").is_err());
        assert!(ModelName::parse("digits.v2_a-b").is_ok());
    }

    #[test]
    fn a_model_reference_reads_back_as_it_was_written() {
        let text = "digits:42";
        assert_eq!(heapless::format!(16; "{}", text.parse::<ModelRef>().unwrap()).unwrap(), text);
        for bad in ["digits", "digits:", "digits:0", "digits:-1", ":1", "digits:1:2"] {
            assert!(bad.parse::<ModelRef>().is_err(), "{bad}");
        }
    }
}
