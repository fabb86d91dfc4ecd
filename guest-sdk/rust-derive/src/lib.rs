//! millrace-sdk-derive
