#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocserv_agent_fuzz::policy_file(data));
