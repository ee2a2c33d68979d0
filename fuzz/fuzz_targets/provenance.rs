#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promotion_gate_fuzz::provenance(bytes));
