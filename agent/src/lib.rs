//! The Linux agent: verifies, installs, scores.
