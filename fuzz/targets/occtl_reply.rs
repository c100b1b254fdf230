#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocserv_agent_fuzz::occtl_reply(data));
