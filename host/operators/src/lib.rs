//! millrace-operators
