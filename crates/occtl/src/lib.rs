//! occtl
