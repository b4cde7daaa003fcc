//! Fixtures for the test suites; no assertions.
