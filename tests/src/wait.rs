//! Waiting until something is so: bounded, and naming what did not come true.

use std::time::{Duration, Instant};

/// Longest wait unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` holds, at most [`PATIENCE`].
pub async fn wait_until(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait_within(PATIENCE, what, condition).await;
}

/// Waits until `condition` holds, at most `patience`.
pub async fn wait_within(patience: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_for_within(patience, what, async || condition().await.then_some(())).await;
}

/// Waits until there is something, at most [`PATIENCE`], and gives it.
pub async fn wait_for<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    wait_for_within(PATIENCE, what, look).await
}

/// Waits until there is something, at most `patience`, and gives it.
pub async fn wait_for_within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain until {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
