//! millrace-tests
