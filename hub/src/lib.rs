//! The hub: registers model packages, collects approvals, rolls them out, and shows what happens.
//!
//! ```text
//!  browser, command line, CI                         devices
//!        | HTTP, WebSocket                              | MQTT 5
//!   api, dashboard                               broker (inside, or a cluster)
//!        |                                              | link
//!        +------------------> drive <-------------------+
//!                  decide (bellwether-hub-core) -> commit (store) -> apply -> tell
//!                               |            |
//!                            blob: packages  exec: checks in a bounded child
//! ```
//!
//! Rooms: [`config`] one struct from one file; [`run`] puts the parts together; [`clock`] the only
//! reader of time; [`keys`] the hub's own keys; [`store`] records; [`blob`] packages; [`broker`]
//! where devices connect; [`tls`] what the hub shows
//! to those who connect; [`drive`] carries out what the rules decide, and is what everything else
//! calls; [`exec`] bounded children; [`dsse`] envelopes that others read; [`words`] digests to be read aloud; [`backup`] the whole state in a file; `outlet` tells others by
//! webhook; [`api`], [`dashboard`], [`cli`], [`client`] the faces.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may"))]

pub mod api;
pub mod backup;
pub mod blob;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod collect;
pub mod config;
pub mod dashboard;
mod date;
pub mod drive;
pub mod dsse;
pub mod exec;
pub mod keys;
mod outlet;
pub mod run;
pub mod store;
pub mod tls;
pub mod words;
