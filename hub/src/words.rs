//! A digest as words: what two people can read to one another over a telephone.

use bellwether_protocol::digest::Digest;

/// Bytes of a digest that are said: 64 bits are more than anybody can aim at, few enough to listen to.
const SAID_BYTES: usize = 8;

/// The first eight bytes of a digest, one word a byte. It helps people to compare; what is signed
/// and checked is always the whole digest.
#[must_use]
pub fn words(digest: &Digest) -> String {
    let said = digest.0.iter().take(SAID_BYTES).filter_map(|byte| WORDS.get(usize::from(*byte)).copied());
    said.collect::<Vec<_>>().join(" ")
}

/// One word for each byte, in the order of the alphabet. No two begin with the same four letters.
/// The order is fixed for ever: words written down yesterday must say the same tomorrow.
const WORDS: [&str; 256] = [
    "acid", "acorn", "actor", "adobe", "agent", "album", "alder", "alley", "alpha", "amber", "anchor", "angle",
    "ankle", "apple", "apron", "arch", "arrow", "ash", "aspen", "atlas", "attic", "aunt", "autumn", "axis", "bacon",
    "badge", "bagel", "bamboo", "banjo", "barn", "basil", "beach", "beard", "bell", "bench", "berry", "birch", "bison",
    "blade", "bloom", "board", "bolt", "bonnet", "book", "bottle", "bowl", "brick", "bridge", "broom", "brush",
    "bucket", "bugle", "butter", "cabin", "cactus", "cake", "camel", "candle", "canoe", "canyon", "carbon", "castle",
    "cedar", "cello", "chalk", "cherry", "chess", "cider", "cinema", "circle", "claw", "clay", "cliff", "clock",
    "cloud", "clover", "cobalt", "coffee", "comet", "copper", "coral", "cotton", "crane", "crow", "cube", "curtain",
    "cymbal", "daisy", "dawn", "deer", "delta", "denim", "desk", "diesel", "dingo", "disk", "dolphin", "donkey",
    "door", "dove", "dragon", "drum", "duck", "dune", "eagle", "echo", "eel", "elbow", "elm", "ember", "engine",
    "fabric", "falcon", "feather", "fern", "fiddle", "fig", "flame", "flute", "foam", "forest", "fossil", "fox",
    "frost", "fudge", "galaxy", "garlic", "gecko", "ginger", "glacier", "globe", "glove", "goat", "gold", "goose",
    "grape", "gravel", "guitar", "hammer", "harbor", "hawk", "hazel", "hedge", "helmet", "heron", "hill", "honey",
    "hook", "horse", "hotel", "ice", "igloo", "indigo", "ink", "iris", "iron", "island", "ivory", "ivy", "jacket",
    "jade", "jaguar", "jazz", "jelly", "jewel", "juniper", "kayak", "kettle", "kiosk", "kite", "kiwi", "knot", "koala",
    "label", "lace", "ladder", "lagoon", "lamp", "lava", "lemon", "lentil", "lilac", "lily", "lime", "linen", "lion",
    "lizard", "lobby", "lotus", "lunar", "magnet", "mango", "maple", "marble", "meadow", "melon", "mesa", "mint",
    "mirror", "moat", "moon", "moss", "moth", "motor", "mule", "museum", "nectar", "needle", "nest", "nickel",
    "noodle", "north", "nutmeg", "oak", "oasis", "oboe", "ocean", "olive", "onion", "opal", "orbit", "orchid", "otter",
    "owl", "oxygen", "oyster", "paddle", "palm", "panda", "paper", "parrot", "peach", "pebble", "pencil", "pepper",
    "piano", "pigeon", "pilot", "pine", "planet", "plum", "pocket", "polar", "pond", "poppy", "pump", "quartz",
    "quill", "rabbit", "radio", "raven", "river", "rocket", "saddle", "salmon", "swan",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_word_that_no_other_sounds_like() {
        let mut heads: Vec<&str> = WORDS.iter().map(|word| word.get(..4).unwrap_or(word)).collect();
        assert!(WORDS.is_sorted());
        assert!(WORDS.iter().all(|word| word.len() <= 7 && word.bytes().all(|byte| byte.is_ascii_lowercase())));
        heads.dedup();
        assert_eq!(heads.len(), 256);
    }

    #[test]
    fn a_digest_reads_the_same_for_ever() {
        let digest = Digest(
            [0, 1, 2, 127, 128, 253, 254, 255].iter().copied().chain([9; 24]).collect::<Vec<u8>>().try_into().unwrap(),
        );
        assert_eq!(words(&digest), "acid acorn actor gecko ginger saddle salmon swan");
        let other = Digest([[0; 8], [7; 8], [7; 8], [7; 8]].concat().try_into().unwrap());
        assert_eq!(words(&other), ["acid"; 8].join(" "));
    }
}
