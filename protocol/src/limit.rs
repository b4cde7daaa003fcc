//! Every bound of the wire, its unit last in its name, with the reason for the number.

/// Largest frame on MQTT: one 64 KiB chunk or chunk table and its header.
pub const FRAME_BYTES_MAX: usize = CHUNK_BYTES + 256;
/// Bytes of a chunk on Linux devices: small enough to resume cheaply, large enough that its
/// 32-byte digest costs 0.05 %.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Most chunks of a package: their digests fill exactly one frame (2,048 x 32 B = 64 KiB).
pub const CHUNKS_MAX: usize = 2048;
/// Largest package, 128 MiB: chunks times their size.
pub const PACKAGE_BYTES_MAX: u64 = (CHUNKS_MAX * CHUNK_BYTES) as u64;
/// Chunks a device asks for at once: keeps a broker's queue for one device under 1 MiB.
pub const CHUNKS_IN_FLIGHT_MAX: u32 = 8;
/// Largest body of a signed statement: fits the stack of a microcontroller, twice.
pub const STATEMENT_BYTES_MAX: usize = 4096;
/// Signatures on one statement: a publisher, up to five approvers, two spare for rotation.
pub const SIGNATURES_MAX: usize = 8;
/// Keys in a root: enough for 20 people and the hub's own, within one statement.
pub const KEYS_MAX: usize = 24;
/// Models on one device: slots, memory and a report that fits one statement.
pub const MODELS_MAX: usize = 8;
/// Releases that one recall names: the versions of one model that share a fault.
pub const RECALL_RELEASES_MAX: usize = 8;
/// Recalls in force at once: they fit a checkpoint, which fits one statement. What lies below a
/// security floor needs none.
pub const RECALLS_MAX: usize = 32;
/// Steps of the root chain that are sent at once; a device that lags further asks again.
pub const ROOT_STEPS_MAX: usize = 16;
/// Devices named one by one in a grant; larger cohorts use buckets.
pub const GRANT_DEVICES_MAX: usize = 64;
/// Files in one package: model, vectors, labels and a few more.
pub const FILES_MAX: usize = 8;
/// Tensors on one side of a model's signature.
pub const TENSORS_MAX: usize = 8;
/// Dimensions of a tensor.
pub const RANK_MAX: usize = 6;
/// Hardware classes a release may name.
pub const HARDWARE_MAX: usize = 4;
/// Records in one batch: with the largest record still within one statement.
pub const RECORDS_MAX: usize = 32;
/// Buckets of a cohort: a grant reaches per mille of the fleet.
pub const BUCKETS: u16 = 1000;
/// Bytes of a device id, as an MQTT client id must fit everywhere.
pub const DEVICE_ID_BYTES_MAX: usize = 64;
/// Bytes of a model name.
pub const MODEL_NAME_BYTES_MAX: usize = 48;
/// Bytes of any other short text: person, hardware class, tensor, file.
pub const TEXT_BYTES_MAX: usize = 48;
/// Bytes of a topic: the longest is a chunk's, with the longest device id.
pub const TOPIC_BYTES_MAX: usize = 128;
/// Largest record in an outbox: with its batch around it, it still fits a statement.
pub const RECORD_BYTES_MAX: usize = STATEMENT_BYTES_MAX - 256;
/// Bytes of a sampled row, inputs and outputs together: a record less names and numbers.
pub const ROW_BYTES_MAX: usize = RECORD_BYTES_MAX - 160;
/// Bins of a column: an error of KS below 0.005 after merging, in about 50 bytes a window.
pub const BINS_MAX: usize = 32;
/// Columns of a baseline: what a device counts for every row it scores.
pub const COLUMNS_MAX: usize = 512;
/// Elements of a tensor that get a column each; of a larger one only mean and variance do.
pub const ELEMENTS_MAX: usize = 256;
/// Bytes of a baseline: every column with its edges, counts and name.
pub const BASELINE_BYTES_MAX: usize = COLUMNS_MAX * 512;
/// Bytes of the cause of a failure: a sentence or two.
pub const CAUSE_BYTES_MAX: usize = 512;
/// Bytes of the end of a log that a failure carries.
pub const LOG_BYTES_MAX: usize = 4096;
/// Bytes of one piece of it: two pieces, with room for a record's head.
pub const LOG_PIECE_BYTES_MAX: usize = LOG_BYTES_MAX / 2;
